//! Self-contained HTML pages of results: the frame of a page with its style, charts of a training as SVG, and thumbnails as
//! `data:` URIs.
//!
//! ```
//! use gallery_gpt_report::{CurvePoint, HtmlPage, escape, for_page, loss_chart};
//!
//! let losses = [2.5, 1.25, 0.5].into_iter().enumerate();
//! let losses: Vec<CurvePoint> = losses.map(|(step, loss)| CurvePoint { step, loss }).collect();
//! let mut page = HtmlPage { title: "first & last run", ..HtmlPage::default() }.start();
//! page.push_str(&for_page(&loss_chart("training loss", &losses, &[])?));
//! page.push_str(&format!("<p>{}</p>", escape("loss < 1")));
//! assert!(page.contains("<h1>first &amp; last run</h1>"));
//! assert!(page.ends_with("</svg>\n<p>loss &lt; 1</p>"));
//! # Ok::<(), gallery_gpt_report::ChartError>(())
//! ```

mod chart;
mod html;
mod thumbnail;

pub use chart::{ChartError, CurvePoint, for_page, line_chart, loss_chart};
pub use html::{Color, HtmlPage, color_rules, escape};
pub use thumbnail::thumbnail;
