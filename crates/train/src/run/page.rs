//! The page of a run: its result, curves, settings, machine, and the sample paintings with their captions in the course of training.

use std::{fmt::Write, time::SystemTime};

use gallery_gpt_report::{Color, HtmlPage, escape, for_page, line_chart};
use serde_json::Value;
use similar::{ChangeTag, TextDiff};

use super::{LogLine, SampleLine, SamplePainting, SpeedLine};
use crate::{StepReport, TrainingConfig};

/// The contents of the page.
pub(crate) struct RunPage<'a> {
    pub(crate) title: &'a str,
    /// The loss curve as SVG.
    pub(crate) loss: &'a str,
    pub(crate) log: &'a [LogLine],
    pub(crate) speed: &'a [SpeedLine],
    pub(crate) paintings: &'a [SamplePainting],
    pub(crate) samples: &'a [SampleLine],
    /// The run's `config.json`, if it has one.
    pub(crate) settings: Option<Value>,
    /// The run's `test.json`, if it has one: an array with an object of figures for each model.
    pub(crate) results: Option<Value>,
    pub(crate) skipped: usize,
    /// Whether the training is over. Until then the page reloads itself.
    pub(crate) finished: bool,
}

const NEW: Color<'_> = Color {
    name: "new",
    light: "#dcecd3",
    dark: "#2c4424",
};

const STYLE: &str = "h1 { font-size: 1.6rem } h2 { margin-top: 2.5rem; font-size: 1.2rem } h3 { font-size: 1rem; margin: 0 0 .4rem }
.soft, dt, figcaption { color: var(--soft); font-size: .85rem } dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .8rem } dd { margin: 0; font-size: 1.15rem }
.scroll { overflow-x: auto } table { border-collapse: collapse } th, td { padding: .3rem .8rem; border-bottom: 1px solid var(--line); text-align: right } th:first-child, td:first-child { text-align: left }
dl, .scroll { margin-top: 1.2rem } figure { margin: 0 } .loss { max-width: 52rem } .charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(18rem, 1fr)); gap: 1rem } svg { width: 100%; height: auto; border: 1px solid var(--line) }
.painting { display: grid; grid-template-columns: 12rem 1fr; gap: 1rem 1.5rem; padding: 1.2rem 0; border-bottom: 1px solid var(--line) } .painting img { width: 100% } .painting p { margin: 0 0 .7rem } ins { background: var(--new); text-decoration: none }
pre { overflow-x: auto; font-size: .8rem } @media (max-width: 40rem) { .painting { grid-template-columns: 1fr } .painting img { max-width: 14rem } }
";

impl RunPage<'_> {
    /// The page as self-contained HTML.
    pub(crate) fn html(&self) -> String {
        let frame = HtmlPage {
            title: self.title,
            colors: &[NEW],
            style: STYLE,
            reload_after: (!self.finished).then_some(30),
        };
        let mut page = frame.start();
        let _ = write!(page, "<p class=\"soft\">{}</p>", escape(&self.times()));
        self.result(&mut page);
        self.figures(&mut page);
        let _ = write!(
            page,
            "<h2>Loss</h2><figure class=\"loss\" role=\"img\" aria-label=\"loss of every step\">{}<figcaption>Loss per supervised token of each step's records, on a logarithmic axis. The records' questions differ in difficulty, so it is not the loss of the table above.</figcaption></figure>",
            for_page(self.loss)
        );
        let _ = write!(
            page,
            "<h2>Course of the training</h2><div class=\"charts\">"
        );
        let steps = |value: fn(&StepReport) -> f64| {
            self.log
                .iter()
                .map(move |line| (line.report.step, value(&line.report)))
        };
        let speeds = self.speed.iter();
        let charts = [
            (
                "gradient norm",
                line_chart("gradient norm", steps(|line| line.grad_norm)),
            ),
            (
                "learning rate",
                line_chart("learning rate", steps(|line| line.learning_rate)),
            ),
            (
                "share of tokens that are supervised",
                line_chart(
                    "share of tokens that are supervised",
                    steps(|line| line.supervised_tokens as f64 / line.tokens.max(1) as f64),
                ),
            ),
            (
                "tokens per second",
                line_chart(
                    "tokens per second",
                    speeds.map(|line| (line.step, line.tokens_per_second)),
                ),
            ),
        ];
        for (name, chart) in charts {
            if let Some(chart) = chart {
                let _ = write!(
                    page,
                    "<figure role=\"img\" aria-label=\"{name}\">{}</figure>",
                    for_page(&chart)
                );
            }
        }
        page.push_str("</div>");
        self.paintings(&mut page);
        self.settings(&mut page);
        let _ = write!(page, "<p class=\"soft\">{}</p></html>", escape(&machine()));
        page
    }

    /// The date, the time that the steps took, and an estimate of the time left.
    fn times(&self) -> String {
        let reports = self.log.iter().map(|line| &line.report);
        let tokens = reports.map(|report| (report.step, report.tokens));
        let tokens: std::collections::BTreeMap<usize, usize> = tokens.collect();
        let seconds: Vec<f64> = self
            .speed
            .iter()
            .filter_map(|line| Some(*tokens.get(&line.step)? as f64 / line.tokens_per_second))
            .filter(|seconds| seconds.is_finite())
            .collect();
        let total: f64 = seconds.iter().sum();
        let mut text = format!(
            "{}; steps took {}",
            httpdate::fmt_http_date(SystemTime::now()),
            duration(total)
        );
        let ends = self.settings.as_ref().and_then(|settings| {
            let last = self.log.last()?;
            let training = settings.get("training")?;
            match training.get("max_steps").and_then(Value::as_u64) {
                Some(steps) => Some(steps as f64),
                None => {
                    let epochs = training.get("num_train_epochs")?.as_f64()?;
                    Some((last.report.step as f64 * epochs / last.epoch).ceil())
                }
            }
        });
        if let (false, Some(ends), Some(last)) = (self.finished, ends, self.log.last()) {
            let left =
                (ends - last.report.step as f64).max(0.0) * total / seconds.len().max(1) as f64;
            let _ = write!(text, ", about {} left", duration(left));
        }
        text
    }

    /// The table of `test.json`: a column for each numeric field, a row for each model.
    fn result(&self, page: &mut String) {
        let Some(rows) = self.results.as_ref().and_then(Value::as_array) else {
            return;
        };
        let Some(first) = rows.first().and_then(Value::as_object) else {
            return;
        };
        let columns = first.iter().filter(|(_, value)| value.is_number());
        let columns: Vec<&String> = columns.map(|(name, _)| name).collect();
        page.push_str(
            "<h2>Result on the test paintings</h2><div class=\"scroll\"><table><tr><th>model",
        );
        for column in &columns {
            let _ = write!(page, "<th>{}", escape(&column.replace('_', " ")));
        }
        for row in rows {
            let name = row.get("model").and_then(Value::as_str).unwrap_or_default();
            let _ = write!(page, "<tr><td>{}", escape(name));
            for column in &columns {
                let value = row.get(column.as_str()).and_then(Value::as_f64);
                let text = match value {
                    Some(value) if value.fract() == 0.0 => format!("{value}"),
                    Some(value) if value.abs() >= 10.0 => format!("{value:.1}"),
                    Some(value) => format!("{value:.3}"),
                    None => String::new(),
                };
                let _ = write!(page, "<td>{text}");
            }
        }
        page.push_str("</table></div>");
    }

    /// A table of the differences from the original's recipe, and all settings folded away.
    fn settings(&self, page: &mut String) {
        let Some(settings) = &self.settings else {
            return;
        };
        page.push_str("<h2>Settings</h2>");
        let original = serde_json::to_value(TrainingConfig::gallery_gpt());
        if let (Some(Value::Object(own)), Ok(Value::Object(original))) =
            (settings.get("training"), original)
        {
            page.push_str("<div class=\"scroll\"><table><tr><th>differs from the original's recipe<th>here<th>there");
            for (name, value) in own {
                let there = original.get(name).unwrap_or(&Value::Null);
                if value != there {
                    let _ = write!(
                        page,
                        "<tr><td>{}<td>{}<td>{}",
                        escape(name),
                        escape(&value.to_string()),
                        escape(&there.to_string())
                    );
                }
            }
            page.push_str("</table></div>");
        }
        let _ = write!(
            page,
            "<details><summary>all of config.json</summary><pre>{}</pre></details>",
            escape(&format!("{settings:#}"))
        );
    }

    fn figures(&self, page: &mut String) {
        let mut figures = Vec::new();
        if let Some(last) = self.log.last() {
            figures.push(("steps", last.report.step.to_string()));
            figures.push(("epochs", format!("{:.2}", last.epoch)));
            figures.push(("last loss", format!("{:.4}", last.report.loss)));
        }
        let mut speeds: Vec<f64> = self
            .speed
            .iter()
            .map(|line| line.tokens_per_second)
            .collect();
        speeds.sort_by(f64::total_cmp);
        if let Some(median) = speeds.get(speeds.len() / 2) {
            figures.push(("tokens per second, median", format!("{median:.0}")));
        }
        let mut tflops: Vec<f64> = self.speed.iter().map(|line| line.tflops).collect();
        tflops.sort_by(f64::total_cmp);
        if let Some(median) = tflops.get(tflops.len() / 2) {
            figures.push(("TFLOP/s of the decoder, median", format!("{median:.3}")));
        }
        if let Some(mfu) = self.speed.last().and_then(|line| line.mfu) {
            figures.push((
                "model FLOPs utilization, last",
                format!("{:.1} %", 100.0 * mfu),
            ));
        }
        let memory = self.speed.iter().filter_map(|line| line.device_memory);
        if let (Some(first), Some(highest)) = (memory.clone().next(), memory.max()) {
            let gigabytes = |bytes: u64| bytes as f64 / 1e9;
            figures.push((
                "device memory, first and highest",
                format!("{:.2} GB, {:.2} GB", gigabytes(first), gigabytes(highest)),
            ));
        }
        let waited: f64 = self.speed.iter().map(|line| line.data_wait).sum();
        figures.push(("waited for data", format!("{waited:.1} s")));
        figures.push(("records skipped", self.skipped.to_string()));
        page.push_str("<dl>");
        for (name, value) in figures {
            let _ = write!(page, "<div><dt>{name}</dt><dd>{value}</dd></div>");
        }
        page.push_str("</dl>");
    }

    fn paintings(&self, page: &mut String) {
        if self.paintings.is_empty() || self.samples.is_empty() {
            return;
        }
        page.push_str("<h2>Captions</h2>");
        page.push_str("<p class=\"soft\"><ins>Marked</ins>: words that the previous caption did not have.</p>");
        for (number, painting) in self.paintings.iter().enumerate() {
            let name = escape(&painting.name);
            let _ = write!(
                page,
                "<div class=\"painting\"><figure><img src=\"{}\" alt=\"{name}\"><figcaption>{name}</figcaption></figure><div>",
                escape(&painting.picture)
            );
            let mut before: Option<&str> = None;
            for line in self.samples {
                let text = line.texts.get(number).map_or("", String::as_str);
                let marked = before.map_or_else(|| escape(text), |before| changed(before, text));
                let _ = write!(page, "<h3>step {}</h3><p>{marked}</p>", line.step);
                before = Some(text);
            }
            page.push_str("</div></div>");
        }
    }
}

/// A text, with the words marked that differ from an earlier one.
fn changed(before: &str, text: &str) -> String {
    let difference = TextDiff::from_words(before, text);
    let mut marked = String::with_capacity(2 * text.len());
    for change in difference.iter_all_changes() {
        let words = escape(change.value());
        match change.tag() {
            ChangeTag::Delete => {}
            ChangeTag::Equal => marked.push_str(&words),
            ChangeTag::Insert => {
                let _ = write!(marked, "<ins>{words}</ins>");
            }
        }
    }
    marked
}

fn duration(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// The machine, for the page.
fn machine() -> String {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("an unnamed processor", |(_, model)| model);
    format!(
        "{model}, {} threads, {} {}; gallery-gpt {}",
        rayon::current_num_threads(),
        std::env::consts::OS,
        std::env::consts::ARCH,
        env!("CARGO_PKG_VERSION")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_begins_with_the_result_and_marks_what_changed() {
        let results = serde_json::json!([
            {"model": "base", "loss": 0.131, "facts": 394, "texts": ["a"]},
            {"model": "finetuned", "loss": 0.0512, "facts": 394, "texts": ["b"]},
        ]);
        let samples = [("a red sky", 0), ("a blue sky", 5)].map(|(text, step)| SampleLine {
            step,
            texts: vec![text.to_owned()],
        });
        let paintings = [SamplePainting {
            name: "one \"&\" two".to_owned(),
            picture: "data:,".to_owned(),
            prompt: gallery_gpt_model::Prompt::text(Vec::new()),
        }];
        let page = RunPage {
            title: "run",
            loss: "<svg/>",
            log: &[],
            speed: &[],
            paintings: &paintings,
            samples: &samples,
            settings: None,
            results: Some(results),
            skipped: 0,
            finished: false,
        };
        let html = page.html();
        assert!(html.contains("<td>finetuned<td>0.051<td>394"), "{html}");
        assert!(html.find("Result on").unwrap() < html.find("<h2>Loss").unwrap());
        assert!(html.contains("a <ins>blue</ins> sky"), "{html}");
        assert!(html.contains("alt=\"one &quot;&amp;&quot; two\""), "{html}");
        assert!(html.contains("http-equiv=\"refresh\""));
        let done = RunPage {
            finished: true,
            ..page
        };
        assert!(!done.html().contains("refresh"));
    }
}
