//! The thread that owns the model: it takes jobs from a bounded queue and runs one after the other.

use std::{
    io::Cursor,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Instant,
};

use gallery_gpt::{
    model::{CancelToken, FinishReason, GenerationError},
    prelude::*,
    text::AnswerRegions,
    vision::{ImageError, ImageLimits, ImageProcessor, PixelValues},
};
use image::{ImageFormat, RgbImage};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::{buffer::Buffer, openai::Usage, refusal::Refusal};

/// Pixels of the longer side of an attention map.
const SHOWN: u32 = 1024;

/// A request for the model, and the channel for its answer.
pub(crate) struct Job {
    pub(crate) conversation: Conversation,
    /// The pictures' files.
    pub(crate) pictures: Vec<Buffer>,
    /// Their share of the memory for bodies.
    pub(crate) room: Option<OwnedSemaphorePermit>,
    pub(crate) task: Task,
    /// Set when the client has gone.
    pub(crate) cancel: CancelToken,
    /// When the answer must be finished.
    pub(crate) deadline: Instant,
    pub(crate) events: mpsc::UnboundedSender<Event>,
}

pub(crate) enum Task {
    /// Answers the conversation.
    Answer(GenerationConfig),
    /// Draws the attention of a phrase of the last turn.
    Attend(String),
}

/// Events of a job, in this order: notes, if there are any; pieces and an end, or an overlay. A refusal may come at any point.
pub(crate) enum Event {
    /// Notes about the client's pictures.
    Notes(Vec<String>),
    Piece(String),
    End {
        finish: FinishReason,
        usage: Usage,
        /// What the answer points at, and its text without the tags for that.
        regions: AnswerRegions,
    },
    Overlay(Vec<u8>),
    Refused(Refusal),
}

/// Runs jobs until the queue is closed.
pub(crate) fn work(gallery: &GalleryGpt, limits: ImageLimits, mut jobs: mpsc::Receiver<Job>) {
    let processor = gallery.processor().clone().with_limits(limits);
    while let Some(mut job) = jobs.blocking_recv() {
        if job.cancel.is_cancelled() {
            continue;
        }
        // A panic ends this job, not the server.
        let done = catch_unwind(AssertUnwindSafe(|| job.run(gallery, &processor)));
        let refusal = match done {
            Ok(Ok(())) => continue,
            Ok(Err(refusal)) => refusal,
            Err(_) => Refusal::internal("the model failed; the server's log says where"),
        };
        let _ = job.events.send(Event::Refused(refusal));
    }
}

impl Job {
    fn run(&mut self, gallery: &GalleryGpt, processor: &ImageProcessor) -> Result<(), Refusal> {
        self.ensure_wanted()?;
        let pictures = self.pictures(processor)?;
        match &self.task {
            Task::Answer(config) => self.answer(gallery, pictures.pixels, config),
            Task::Attend(phrase) => self.attend(gallery, pictures, phrase),
        }
    }

    /// Refuses to continue if the client has gone or the deadline has passed.
    fn ensure_wanted(&self) -> Result<(), Refusal> {
        if Instant::now() >= self.deadline {
            self.cancel.cancel();
        }
        if self.cancel.is_cancelled() {
            return Err(Refusal::too_late());
        }
        Ok(())
    }

    /// Decodes one picture after the other; each file and each decoded picture is dropped before the next is read.
    fn pictures(&mut self, processor: &ImageProcessor) -> Result<Pictures, Refusal> {
        let mut pictures = Pictures::default();
        let files = std::mem::take(&mut self.pictures);
        let count = files.len();
        let mut notes = Vec::new();
        for (number, file) in files.into_iter().enumerate() {
            self.ensure_wanted()?;
            let name = format!("{number} of the request");
            let refused = |error: ImageError| Refusal::invalid("messages", error.to_string());
            let orientation = processor
                .info_of(&name, &file)
                .map_err(refused)?
                .orientation;
            if !orientation.is_upright() && !processor.config().apply_orientation {
                notes.push(format!(
                    "picture {name} carries {} (EXIF), which is not applied: the model reads it as it is stored",
                    orientation.description()
                ));
            }
            if number + 1 == count && matches!(self.task, Task::Attend(_)) {
                let picture = processor.decode(&name, &file).map_err(refused)?;
                pictures.pixels.push(processor.process(&picture));
                pictures.last = Some(shrunk(picture));
            } else {
                // Row by row: the whole picture is never in memory.
                let pixels = processor.process_bytes(&name, &file).map_err(refused)?;
                pictures.pixels.push(pixels);
            }
        }
        self.room = None;
        if !notes.is_empty() {
            let _ = self.events.send(Event::Notes(notes));
        }
        Ok(pictures)
    }

    fn answer(
        &self,
        gallery: &GalleryGpt,
        pixels: Vec<PixelValues>,
        config: &GenerationConfig,
    ) -> Result<(), Refusal> {
        let prompt = gallery.continuation(&self.conversation, pixels)?;
        let patches = gallery.model().config().tokens_per_picture();
        let prompt_tokens = prompt.input_ids.len() + prompt.pictures.len() * (patches - 1);
        let mut config = config.clone();
        let stop_text = gallery.stop_text().map(str::to_owned);
        config.stop_strings.extend(stop_text);
        let started = gallery.stream_until(prompt, &config, self.cancel.clone());
        let mut stream = match started {
            // The client has gone.
            Err(GalleryError::Generation(GenerationError::Cancelled)) => return Ok(()),
            started => started?,
        };
        for piece in &mut stream {
            self.ensure_wanted()?;
            if self.events.send(Event::Piece(piece?)).is_err() {
                return Ok(());
            }
        }
        let generation = stream.finish();
        let completion = generation.ids.len() + usize::from(generation.stop_id.is_some());
        let _ = self.events.send(Event::End {
            regions: gallery.answer_with_regions(&generation),
            finish: generation.finish,
            usage: Usage {
                prompt: prompt_tokens,
                completion,
            },
        });
        Ok(())
    }

    fn attend(
        &self,
        gallery: &GalleryGpt,
        pictures: Pictures,
        phrase: &str,
    ) -> Result<(), Refusal> {
        let mut asked = self.conversation.clone();
        let answer = asked.turns.pop().map(|turn| turn.text).unwrap_or_default();
        let answer = gallery
            .tokenizer()
            .encode(&answer)
            .map_err(|error| Refusal::invalid("messages", error.to_string()))?;
        let prompt = gallery.continuation(&asked, pictures.pixels)?;
        let maps = gallery.attention_maps(&prompt, &answer, phrase)?;
        let (Some(map), Some(picture)) = (maps.last(), pictures.last) else {
            return Err(Refusal::invalid(
                "messages",
                "there is no picture in the conversation",
            ));
        };
        let mut file = Cursor::new(Vec::new());
        map.overlay(gallery, &picture)
            .write_to(&mut file, ImageFormat::Png)
            .map_err(|error| Refusal::internal(error.to_string()))?;
        let _ = self.events.send(Event::Overlay(file.into_inner()));
        Ok(())
    }
}

/// The pictures of a job.
#[derive(Default)]
struct Pictures {
    /// As the vision tower takes them.
    pixels: Vec<PixelValues>,
    /// The last one, to draw attention on.
    last: Option<RgbImage>,
}

/// A picture, scaled down to the size of an attention map.
fn shrunk(picture: RgbImage) -> RgbImage {
    let (width, height) = picture.dimensions();
    let longest = width.max(height);
    if longest <= SHOWN {
        return picture;
    }
    let side = |side: u32| (u64::from(side) * u64::from(SHOWN) / u64::from(longest)).max(1) as u32;
    image::imageops::thumbnail(&picture, side(width), side(height))
}
