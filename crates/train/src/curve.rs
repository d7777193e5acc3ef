//! The loss curve as a picture.

use std::path::Path;

use gallery_gpt_checkpoint::write_file;
use plotters::prelude::*;

use crate::TrainError;

/// A point of a curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CurvePoint {
    /// Step.
    pub step: usize,
    /// Loss.
    pub loss: f64,
}

/// Draws the loss of every step, its running mean, and what was found on validation records, as an SVG file.
///
/// # Errors
/// The file cannot be written.
pub fn write_curve(
    path: &Path,
    title: &str,
    points: &[CurvePoint],
    validation: &[CurvePoint],
) -> Result<(), TrainError> {
    let svg = loss_chart(title, points, validation).map_err(|error| TrainError::Write {
        path: path.to_owned(),
        source: std::io::Error::other(error.to_string()),
    })?;
    Ok(write_file(path, svg.as_bytes())?)
}

/// As [`write_curve`] draws it.
pub(crate) fn loss_chart(
    title: &str,
    points: &[CurvePoint],
    validation: &[CurvePoint],
) -> Result<String, Box<dyn std::error::Error>> {
    let mut svg = String::new();
    draw(&mut svg, title, points, validation)?;
    Ok(svg)
}

/// One line over the steps; nothing where there is nothing to draw.
pub(crate) fn line_chart(
    title: &str,
    points: impl Iterator<Item = (usize, f64)>,
) -> Option<String> {
    let points: Vec<(usize, f64)> = points.filter(|(_, value)| value.is_finite()).collect();
    let last = points.last()?.0;
    let highest = points.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    let mut svg = String::new();
    let mut draw = || -> Result<(), Box<dyn std::error::Error>> {
        let root = SVGBackend::with_string(&mut svg, (420, 240)).into_drawing_area();
        root.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&root)
            .caption(title, ("sans-serif", 15))
            .margin(8)
            .x_label_area_size(24)
            .y_label_area_size(56)
            .build_cartesian_2d(0..last + 1, 0.0..highest.max(f64::MIN_POSITIVE) * 1.05)?;
        chart
            .configure_mesh()
            .light_line_style(RGBColor(240, 240, 240))
            .y_label_formatter(&|value| label(*value))
            .draw()?;
        chart.draw_series(LineSeries::new(
            points.iter().copied(),
            RGBColor(30, 80, 170),
        ))?;
        root.present()?;
        Ok(())
    };
    draw().ok().map(|()| svg)
}

/// A number as short as it can be read.
fn label(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        1000.0.. => format!("{value:.0}"),
        0.01.. => {
            let text = format!("{value:.3}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        _ => format!("{value:.1e}"),
    }
}

/// Weight of the newest point in the running mean.
const NEWEST: f64 = 0.1;

fn draw(
    svg: &mut String,
    title: &str,
    points: &[CurvePoint],
    validation: &[CurvePoint],
) -> Result<(), Box<dyn std::error::Error>> {
    let last = points.last().map_or(1, |point| point.step.max(1));
    let highest = points
        .iter()
        .chain(validation)
        .map(|point| point.loss)
        .fold(0.1_f64, f64::max);
    let root = SVGBackend::with_string(svg, (800, 420)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(48)
        .build_cartesian_2d(0..last + 1, 0.0..highest * 1.05)?;
    chart
        .configure_mesh()
        .x_desc("step")
        .y_desc("loss")
        .light_line_style(RGBColor(240, 240, 240))
        .draw()?;
    chart.draw_series(LineSeries::new(
        points.iter().map(|point| (point.step, point.loss)),
        RGBColor(190, 205, 230),
    ))?;
    let mut mean = None;
    let smooth: Vec<(usize, f64)> = points
        .iter()
        .map(|point| {
            let value = mean.map_or(point.loss, |mean| {
                (1.0 - NEWEST) * mean + NEWEST * point.loss
            });
            mean = Some(value);
            (point.step, value)
        })
        .collect();
    chart.draw_series(LineSeries::new(
        smooth,
        RGBColor(30, 80, 170).stroke_width(2),
    ))?;
    let orange = RGBColor(200, 110, 20);
    let found = validation.iter().map(|point| (point.step, point.loss));
    chart.draw_series(LineSeries::new(found.clone(), orange.stroke_width(2)))?;
    chart.draw_series(found.map(|at| Circle::new(at, 3, orange.filled())))?;
    root.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_short_and_right() {
        let labels = [0.0, 0.004, 0.25, 1.0, 10.0, 120.0, 4321.4].map(label);
        assert_eq!(labels, ["0", "4.0e-3", "0.25", "1", "10", "120", "4321"]);
    }
}
