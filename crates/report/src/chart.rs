//! Charts as SVG: the loss on a logarithmic axis, and single lines over the steps.

use plotters::prelude::*;

/// A chart cannot be drawn.
#[derive(Debug, thiserror::Error)]
#[error("the chart cannot be drawn: {0}")]
pub struct ChartError(String);

/// What plotters says when it draws.
type Drawn = Result<(), Box<dyn std::error::Error>>;

/// A point of a curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CurvePoint {
    /// Step.
    pub step: usize,
    /// Loss.
    pub loss: f64,
}

/// The loss of every step, its running mean, and the validation losses, on a logarithmic axis.
///
/// # Errors
/// The chart cannot be drawn.
pub fn loss_chart(
    title: &str,
    points: &[CurvePoint],
    validation: &[CurvePoint],
) -> Result<String, ChartError> {
    let mut svg = String::new();
    draw(&mut svg, title, points, validation).map_err(|error| ChartError(error.to_string()))?;
    Ok(svg)
}

/// Oversampling: plotters draws at whole pixels, which would make lines jagged at the intended size.
const FINE: i32 = 3;

fn font(size: i32) -> (&'static str, i32) {
    ("sans-serif", size * FINE)
}

/// A chart for a page in light or dark mode: no background, and lines in the colour of the text.
#[must_use]
pub fn for_page(svg: &str) -> String {
    svg.replace("fill=\"#FFFFFF\"", "fill=\"none\"")
        .replace("\"#000000\"", "\"currentColor\"")
        .replace("\"#F0F0F0\"", "\"currentColor\" stroke-opacity=\"0.12\"")
}

/// One line over the steps; `None` without points.
#[must_use]
pub fn line_chart(title: &str, points: impl Iterator<Item = (usize, f64)>) -> Option<String> {
    let points: Vec<(usize, f64)> = points.filter(|(_, value)| value.is_finite()).collect();
    let last = points.last()?.0;
    let highest = points.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    let mut svg = String::new();
    let mut draw = || -> Drawn {
        let size = (420 * FINE as u32, 240 * FINE as u32);
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        root.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&root)
            .caption(title, font(15))
            .margin(8 * FINE)
            .x_label_area_size(26 * FINE)
            .y_label_area_size(60 * FINE)
            .build_cartesian_2d(0..last + 1, 0.0..highest.max(f64::MIN_POSITIVE) * 1.05)?;
        chart
            .configure_mesh()
            .max_light_lines(1)
            .bold_line_style(GRID)
            .x_labels(6)
            .y_labels(5)
            .label_style(font(13))
            .y_label_formatter(&|value| label(*value))
            .draw()?;
        chart.draw_series(LineSeries::new(
            points.iter().copied(),
            BLUE.stroke_width(4),
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
            let digits = if value < 0.1 { 3 } else { 2 };
            let text = format!("{value:.digits$}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        _ => format!("{value:.1e}"),
    }
}

/// Weight of the newest point in the running mean.
const NEWEST: f64 = 0.1;

const GRID: RGBColor = RGBColor(240, 240, 240);
const BLUE: RGBColor = RGBColor(60, 120, 210);
const PALE: RGBColor = RGBColor(160, 185, 225);
const ORANGE: RGBColor = RGBColor(200, 110, 20);

fn draw(svg: &mut String, title: &str, points: &[CurvePoint], validation: &[CurvePoint]) -> Drawn {
    let last = points.last().map_or(1, |point| point.step.max(1));
    let losses = points.iter().chain(validation).map(|point| point.loss);
    let losses = losses.filter(|loss| loss.is_finite() && *loss > 0.0);
    let (lowest, highest) = losses.fold((f64::INFINITY, 0.0_f64), |(low, high), loss| {
        (low.min(loss), high.max(loss))
    });
    let (lowest, highest) = match lowest <= highest {
        true => (lowest / 1.15, highest * 1.15),
        false => (0.1, 1.0),
    };
    let size = (560 * FINE as u32, 320 * FINE as u32);
    let root = SVGBackend::with_string(svg, size).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, font(20))
        .margin(12 * FINE)
        .x_label_area_size(44 * FINE)
        .y_label_area_size(72 * FINE)
        .build_cartesian_2d(0..last + 1, lowest.log10()..highest.log10())?;
    chart
        .configure_mesh()
        .x_desc("step")
        .y_desc("loss")
        .max_light_lines(1)
        .bold_line_style(GRID)
        .x_labels(8)
        .y_labels(6)
        .label_style(font(16))
        .axis_desc_style(font(16))
        .y_label_formatter(&|power| label(10_f64.powf(*power)))
        .draw()?;
    let legend =
        |style: ShapeStyle| move |(x, y)| PathElement::new([(x, y), (x + 20 * FINE, y)], style);
    // Only positive values can be drawn on a logarithmic axis.
    let drawn = |point: &&CurvePoint| point.loss.is_finite() && point.loss > 0.0;
    let pale = PALE.stroke_width(3);
    chart
        .draw_series(LineSeries::new(
            points
                .iter()
                .filter(drawn)
                .map(|point| (point.step, point.loss.log10())),
            pale,
        ))?
        .label("each step")
        .legend(legend(pale));
    let mut mean = None;
    let smooth: Vec<(usize, f64)> = points
        .iter()
        .filter(drawn)
        .map(|point| {
            let value = mean.map_or(point.loss, |mean| {
                (1.0 - NEWEST) * mean + NEWEST * point.loss
            });
            mean = Some(value);
            (point.step, value.log10())
        })
        .collect();
    let blue = BLUE.stroke_width(6);
    chart
        .draw_series(LineSeries::new(smooth, blue))?
        .label("running mean")
        .legend(legend(blue));
    if !validation.is_empty() {
        let found = validation.iter().filter(drawn);
        let found = found.map(|point| (point.step, point.loss.log10()));
        let orange = ORANGE.stroke_width(6);
        chart
            .draw_series(LineSeries::new(found.clone(), orange))?
            .label("validation")
            .legend(legend(orange));
        chart.draw_series(found.map(|at| Circle::new(at, 3 * FINE, ORANGE.filled())))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .label_font(font(16))
        .margin(8 * FINE)
        .legend_area_size(28 * FINE)
        .draw()?;
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

    #[test]
    fn any_losses_can_be_drawn() {
        for losses in [
            &[][..],
            &[2.0],
            &[0.0, 0.0],
            &[f64::NAN, 1.0],
            &[5.0, 0.01, 0.5],
        ] {
            let points: Vec<CurvePoint> = losses
                .iter()
                .enumerate()
                .map(|(at, &loss)| CurvePoint { step: at + 1, loss })
                .collect();
            let svg = loss_chart("loss", &points, &points).unwrap();
            assert!(svg.contains("running mean"), "{losses:?}");
            let page = for_page(&svg);
            assert!(!page.contains("#FFFFFF") && page.contains("currentColor"));
        }
    }
}
