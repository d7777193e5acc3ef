//! The files for people: the loss curve and the page.

use std::{fs, path::Path};

use gallery_gpt_checkpoint::write_file;
use gallery_gpt_report::{ChartError, CurvePoint, loss_chart};

use super::{RunFolder, SamplePainting, page::RunPage, settings::SETTINGS};
use crate::TrainError;

/// Draws the loss of every step, its running mean, and the validation losses, as an SVG file.
///
/// # Errors
/// The file cannot be written.
pub fn write_curve(
    path: &Path,
    title: &str,
    points: &[CurvePoint],
    validation: &[CurvePoint],
) -> Result<(), TrainError> {
    let svg = loss_chart(title, points, validation).map_err(|error| not_drawn(path, error))?;
    Ok(write_file(path, svg.as_bytes())?)
}

fn not_drawn(path: &Path, error: ChartError) -> TrainError {
    TrainError::Write {
        path: path.to_owned(),
        source: std::io::Error::other(error),
    }
}

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
        let json = |name: &str| {
            let bytes = fs::read(self.path().join(name)).ok()?;
            serde_json::from_slice(&bytes).ok()
        };
        let page = RunPage {
            title: &self.path().display().to_string(),
            loss: &loss_chart("training loss", &points, &validation)
                .map_err(|error| not_drawn(&self.page(), error))?,
            log: self.log.lines(),
            speed: self.log.speeds(),
            paintings,
            samples: self.samples.lines(),
            settings: json(SETTINGS),
            results: json("test.json"),
            skipped: self.bad_count(),
            finished,
        };
        Ok(write_file(&self.page(), page.html().as_bytes())?)
    }
}
