//! The files for people: the loss curve and the page.

use std::fs;

use gallery_gpt_checkpoint::write_file;

use super::{
    RunFolder, SamplePainting,
    curve::{CurvePoint, loss_chart, write_curve},
    page::Page,
    settings::SETTINGS,
};
use crate::TrainError;

impl RunFolder {
    /// Draws the loss of every logged step and of every evaluation.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn draw_curve(&self) -> Result<(), TrainError> {
        let (points, validation) = self.points();
        write_curve(&self.curve(), "training loss", &points, &validation)
    }

    /// The losses of the steps and of the evaluations so far.
    pub(crate) fn points(&self) -> (Vec<CurvePoint>, Vec<CurvePoint>) {
        (self.log.losses(), self.evaluations.losses())
    }

    /// Writes the page: the result if the folder has one in `test.json`, curves, settings, machine, and the captions of the sample
    /// paintings. It is one self-contained file, and reloads itself until the training is `finished`.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write_page(
        &self,
        paintings: &[SamplePainting],
        finished: bool,
    ) -> Result<(), TrainError> {
        let (points, validation) = self.points();
        let failed = |error: Box<dyn std::error::Error>| TrainError::Write {
            path: self.page(),
            source: std::io::Error::other(error.to_string()),
        };
        let json = |name: &str| {
            let bytes = fs::read(self.path().join(name)).ok()?;
            serde_json::from_slice(&bytes).ok()
        };
        let page = Page {
            title: &self.path().display().to_string(),
            loss: &loss_chart("training loss", &points, &validation).map_err(failed)?,
            log: self.log.lines(),
            speed: self.log.speeds(),
            paintings,
            samples: self.samples.lines(),
            settings: json(SETTINGS),
            results: json("test.json"),
            left_out: self.bad_count(),
            finished,
        };
        Ok(write_file(&self.page(), page.html().as_bytes())?)
    }
}
