//! A run as a page people look at: curves, settings, machine, and the sample paintings with their texts as training went on.

use std::fmt::Write;

use serde_json::Value;

use crate::{LogLine, SampleLine, SamplePainting, SpeedLine, curve::line_chart};

/// What goes on the page.
pub(crate) struct Page<'a> {
    pub(crate) title: &'a str,
    /// The loss curve, drawn.
    pub(crate) loss: &'a str,
    pub(crate) log: &'a [LogLine],
    pub(crate) speed: &'a [SpeedLine],
    pub(crate) paintings: &'a [SamplePainting],
    pub(crate) samples: &'a [SampleLine],
    /// The run's `config.json`, if it has one.
    pub(crate) settings: Option<Value>,
    pub(crate) left_out: usize,
}

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1d1b16; --paper: #fbf9f4; --line: #d8d2c4; --soft: #6d6758 }
@media (prefers-color-scheme: dark) { :root { --ink: #ece7db; --paper: #191713; --line: #3c382f; --soft: #a39c8b } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 72rem; padding: 1.5rem 1rem 4rem; background: var(--paper); color: var(--ink); font: 1rem/1.5 Georgia, 'Times New Roman', serif }
h1, h2, h3 { font-weight: 600; line-height: 1.2 } h1 { font-size: 1.6rem } h2 { margin-top: 2.5rem; font-size: 1.2rem } h3 { font-size: 1rem; margin: 0 0 .4rem }
.soft, dt { color: var(--soft); font-size: .85rem } dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .8rem; margin: 0 } dd { margin: 0; font-size: 1.15rem }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(18rem, 1fr)); gap: 1rem } .charts svg, .loss svg { width: 100%; height: auto; border: 1px solid var(--line); background: #fff }
.painting { display: grid; grid-template-columns: 12rem 1fr; gap: 1rem 1.5rem; padding: 1.2rem 0; border-bottom: 1px solid var(--line) } .painting img { width: 100% } .painting p { margin: 0 0 .7rem }
pre { overflow-x: auto; font-size: .8rem } @media (max-width: 40rem) { .painting { grid-template-columns: 1fr } .painting img { max-width: 14rem } }
";

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

impl Page<'_> {
    /// The page, one file that stands alone.
    pub(crate) fn html(&self) -> String {
        let title = escape(self.title);
        let mut page = format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>{title}</title><style>{STYLE}</style><h1>{title}</h1>"
        );
        self.figures(&mut page);
        let _ = write!(page, "<h2>Loss</h2><div class=\"loss\">{}</div>", self.loss);
        let _ = write!(page, "<h2>On the way</h2><div class=\"charts\">");
        let steps =
            |value: fn(&LogLine) -> f64| self.log.iter().map(move |line| (line.step, value(line)));
        let charts = [
            line_chart("gradient norm", steps(|line| line.grad_norm)),
            line_chart("learning rate", steps(|line| line.learning_rate)),
            line_chart(
                "share of tokens that are supervised",
                steps(|line| line.supervised_tokens as f64 / line.tokens.max(1) as f64),
            ),
            line_chart(
                "tokens per second",
                self.speed
                    .iter()
                    .map(|line| (line.step, line.tokens_per_second)),
            ),
        ];
        for chart in charts.into_iter().flatten() {
            page.push_str(&chart);
        }
        page.push_str("</div>");
        self.paintings(&mut page);
        if let Some(settings) = &self.settings {
            let _ = write!(
                page,
                "<h2>Settings</h2><pre>{}</pre>",
                escape(&format!("{settings:#}"))
            );
        }
        let _ = write!(page, "<p class=\"soft\">{}</p></html>", escape(&machine()));
        page
    }

    fn figures(&self, page: &mut String) {
        let mut figures = Vec::new();
        if let Some(last) = self.log.last() {
            figures.push(("steps", last.step.to_string()));
            figures.push(("epochs", format!("{:.2}", last.epoch)));
            figures.push(("last loss", format!("{:.4}", last.loss)));
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
        if let (Some(first), Some(most)) = (memory.clone().next(), memory.max()) {
            let gigabytes = |bytes: u64| bytes as f64 / 1e9;
            figures.push((
                "device memory, first and most",
                format!("{:.2} GB, {:.2} GB", gigabytes(first), gigabytes(most)),
            ));
        }
        let waited: f64 = self.speed.iter().map(|line| line.data_wait).sum();
        figures.push(("waited for data", format!("{waited:.1} s")));
        figures.push(("records left out", self.left_out.to_string()));
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
        page.push_str("<h2>What it wrote</h2>");
        for (number, painting) in self.paintings.iter().enumerate() {
            let _ = write!(
                page,
                "<div class=\"painting\"><div><img src=\"{}\" alt=\"\"><span class=\"soft\">{}</span></div><div>",
                escape(&painting.picture),
                escape(&painting.name)
            );
            for line in self.samples {
                let text = line.texts.get(number).map_or("", String::as_str);
                let _ = write!(page, "<h3>step {}</h3><p>{}</p>", line.step, escape(text));
            }
            page.push_str("</div></div>");
        }
    }
}

/// What the page says of the machine.
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
