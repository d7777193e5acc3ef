//! A web server over one model: a page that describes a painting dropped on it, and OpenAI's chat completions.
//!
//! | path | answer |
//! | --- | --- |
//! | `GET /` | the page |
//! | `POST /v1/chat/completions` | [`ChatRequest`](request::ChatRequest), whole or streamed |
//! | `GET /v1/models`, `/v1/models/{name}` | the model's name and defaults |
//! | `POST /attention` | for a chat request with a `phrase`: an attention map of the last picture as a PNG |
//! | `GET /health` | `ok` |
//!
//! One thread owns the model and answers one request after the other; [`Limits`] bounds how many may wait, and what they may cost.
//! Pictures come as `data:` URIs: nothing is fetched, and no file is read or written. [`Access`] says who may use the server.
//! A refused request gets an error in OpenAI's format.
//!
//! ```no_run
//! use std::{sync::Arc, time::Duration};
//!
//! use gallery_gpt::{prelude::*, vision::ImageLimits};
//! use gallery_gpt_server::{Access, BodyLimits, ConnectionLimits, Limits, listen, serve};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let gallery = Arc::new(GalleryGpt::load("datasets/tiny-base", &Device::flex())?);
//! let limits = Limits {
//!     queue: 16,
//!     pictures: 4,
//!     picture: ImageLimits::small(),
//!     body: BodyLimits {
//!         bytes: 32 << 20,
//!         in_flight: 48 << 20,
//!         time: Duration::from_secs(30),
//!         pause: Duration::from_secs(10),
//!     },
//!     deadline: Duration::from_secs(300),
//! };
//! let connections = ConnectionLimits {
//!     connections: 200,
//!     head: Duration::from_secs(10),
//!     answer: Duration::from_secs(310),
//! };
//! let defaults = GenerationConfig::greedy(512);
//! let (router, worker) = serve(gallery, "tiny-base".to_owned(), defaults, limits, Access::default());
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:8000").await?;
//! let stopped = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
//! listen(listener, router, connections, None, stopped).await;
//! worker.join().map_err(|_| "the model's thread failed")?;
//! # Ok(())
//! # }
//! ```

mod body;
mod buffer;
mod data_uri;
mod guard;
mod listen;
mod neutral;
mod openai;
mod refusal;
pub mod request;
mod routes;
mod worker;

pub use body::BodyLimits;
pub use buffer::Buffer;
pub use guard::Access;
pub use listen::{ConnectionLimits, Log, listen};
pub use routes::{Limits, serve};
