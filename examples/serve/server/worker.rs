//! The thread that has the model: it takes jobs from a bounded queue and does one after the other.

use std::{
    io::Cursor,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Instant,
};

use gallery_gpt::{
    model::{CancelToken, FinishReason, GenerationError},
    prelude::*,
    vision::PixelValues,
};
use image::{ImageFormat, RgbImage};
use tokio::sync::mpsc;

use super::{Refusal, openai::Usage};

/// Something to do, and for whom.
pub(crate) struct Job {
    pub(crate) conversation: Conversation,
    /// The pictures' files.
    pub(crate) pictures: Vec<Vec<u8>>,
    pub(crate) task: Task,
    /// Set when nobody waits any more.
    pub(crate) cancel: CancelToken,
    /// When the answer comes too late.
    pub(crate) deadline: Instant,
    pub(crate) events: mpsc::UnboundedSender<Event>,
}

pub(crate) enum Task {
    /// Answers the conversation.
    Answer(GenerationConfig),
    /// Shows where the decoder looked while it wrote a phrase of the last turn.
    Attend(String),
}

/// What comes of a job, in this order: pieces and an end, or a picture, or a refusal at any point.
pub(crate) enum Event {
    Piece(String),
    End { finish: FinishReason, usage: Usage },
    Overlay(Vec<u8>),
    Refused(Refusal),
}

/// Does jobs until the queue is closed.
pub(crate) fn work(gallery: &GalleryGpt, mut jobs: mpsc::Receiver<Job>) {
    while let Some(job) = jobs.blocking_recv() {
        if job.cancel.is_cancelled() {
            continue;
        }
        // A panic is this job's end, not the server's.
        let done = catch_unwind(AssertUnwindSafe(|| job.run(gallery)));
        let refusal = match done {
            Ok(Ok(())) => continue,
            Ok(Err(refusal)) => refusal,
            Err(_) => Refusal::internal("the model failed; the server's log says where".to_owned()),
        };
        let _ = job.events.send(Event::Refused(refusal));
    }
}

impl Job {
    fn run(&self, gallery: &GalleryGpt) -> Result<(), Refusal> {
        self.in_time()?;
        let decoded = self.decoded(gallery)?;
        let processor = gallery.processor();
        let pixels: Vec<PixelValues> = decoded
            .iter()
            .map(|picture| processor.process(picture))
            .collect();
        match &self.task {
            Task::Answer(config) => self.answer(gallery, pixels, config),
            Task::Attend(phrase) => self.attend(gallery, pixels, &decoded, phrase),
        }
    }

    fn in_time(&self) -> Result<(), Refusal> {
        if Instant::now() < self.deadline {
            Ok(())
        } else {
            self.cancel.cancel();
            Err(Refusal::too_late())
        }
    }

    fn decoded(&self, gallery: &GalleryGpt) -> Result<Vec<RgbImage>, Refusal> {
        let files = self.pictures.iter().enumerate();
        files
            .map(|(number, bytes)| {
                gallery
                    .processor()
                    .decode(&format!("{number} of the request"), bytes)
                    .map_err(|error| Refusal::invalid(error.to_string()))
            })
            .collect()
    }

    fn answer(
        &self,
        gallery: &GalleryGpt,
        pixels: Vec<PixelValues>,
        config: &GenerationConfig,
    ) -> Result<(), Refusal> {
        let prompt = gallery
            .continuation(&self.conversation, pixels)
            .map_err(refused)?;
        let patches = gallery.model().config().tokens_per_picture();
        let prompt_tokens = prompt.input_ids.len() + prompt.pictures.len() * (patches - 1);
        let mut config = config.clone();
        let stop_text = gallery.stop_text().map(str::to_owned);
        config.stop_strings.extend(stop_text);
        let started = gallery.stream_until(prompt, &config, self.cancel.clone());
        let mut stream = match started {
            // Nobody waits.
            Err(GalleryError::Generation(GenerationError::Cancelled)) => return Ok(()),
            started => started.map_err(refused)?,
        };
        for piece in &mut stream {
            self.in_time()?;
            if self
                .events
                .send(Event::Piece(piece.map_err(refused)?))
                .is_err()
            {
                return Ok(());
            }
        }
        let generation = stream.finish();
        let completion = generation.ids.len() + usize::from(generation.stop_id.is_some());
        let _ = self.events.send(Event::End {
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
        pixels: Vec<PixelValues>,
        pictures: &[RgbImage],
        phrase: &str,
    ) -> Result<(), Refusal> {
        let mut asked = self.conversation.clone();
        let answer = asked.turns.pop().map(|turn| turn.text).unwrap_or_default();
        let answer = gallery
            .tokenizer()
            .encode(&answer)
            .map_err(|error| Refusal::invalid(error.to_string()))?;
        let prompt = gallery.continuation(&asked, pixels).map_err(refused)?;
        let maps = gallery
            .attention_maps(&prompt, &answer, phrase)
            .map_err(refused)?;
        let (Some(map), Some(picture)) = (maps.last(), pictures.last()) else {
            return Err(Refusal::invalid(
                "there is no picture to look at".to_owned(),
            ));
        };
        let mut file = Cursor::new(Vec::new());
        map.overlay(gallery, picture)
            .write_to(&mut file, ImageFormat::Png)
            .map_err(|error| Refusal::internal(error.to_string()))?;
        let _ = self.events.send(Event::Overlay(file.into_inner()));
        Ok(())
    }
}

fn refused(error: GalleryError) -> Refusal {
    match error {
        GalleryError::Generation(GenerationError::NotFinite { .. }) => {
            Refusal::internal(error.to_string())
        }
        error => Refusal::invalid(error.to_string()),
    }
}
