//! The HTML report of an evaluation: the table with its intervals, the distribution of every score,
//! and paintings with their texts.

use std::{collections::BTreeSet, fmt::Write};

use gallery_gpt_data::TestPainting;
use gallery_gpt_report::{Color, HtmlPage, escape};

use crate::{
    Comparison, Interval, Score, Scorer, SystemScores, painting_name, reference_count, rouge_words,
};

/// The contents of the report.
#[derive(Debug)]
pub struct Report<'a> {
    /// Title of the page.
    pub title: &'a str,
    /// The test set.
    pub paintings: &'a [TestPainting],
    /// Columns of the table.
    pub columns: &'a [Score],
    /// Systems, the baseline first.
    pub systems: &'a [SystemScores],
    /// The interval of every system and column.
    pub intervals: &'a [Vec<Interval>],
    /// The comparison of every system with the first, for every column; `None` for the first
    /// itself.
    pub comparisons: &'a [Vec<Option<Comparison>>],
    /// Warnings shown above the table ([`Scorer::notices`]).
    pub notices: &'a [String],
    /// Number of paintings shown of each kind.
    pub shown: usize,
}

const COLORS: [Color<'_>; 3] = [
    Color {
        name: "bar",
        light: "#8a6d3b",
        dark: "#c9a66b",
    },
    Color {
        name: "good",
        light: "#dcecd3",
        dark: "#2c4424",
    },
    Color {
        name: "bad",
        light: "#f6dcd4",
        dark: "#54302a",
    },
];

const STYLE: &str = "h1 { font-size: 1.7rem } h2 { margin-top: 2.5rem; font-size: 1.25rem } h3 { font-size: 1rem; margin: 0 0 .5rem }
.scroll { overflow-x: auto; background: linear-gradient(to right, var(--paper) 2rem, transparent) local, linear-gradient(to left, var(--paper) 2rem, transparent) 100% local, linear-gradient(to right, var(--line), transparent .8rem), linear-gradient(to left, var(--line), transparent .8rem) 100% } nav a { color: inherit; margin-right: 1rem } .notice { border-left: .3rem solid var(--bar); padding-left: .8rem } table { border-collapse: collapse; width: 100% }
th, td { padding: .4rem .7rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; vertical-align: top } th:first-child, td:first-child { text-align: left }
small, figcaption, .soft { color: var(--soft); font-size: .82rem } code { font-size: .78rem; overflow-wrap: anywhere }
.plots { display: grid; gap: 1rem; margin: 0 0 1rem } .plots h3 { grid-column: 1 / -1; margin: 0 } figure { margin: 0 } svg { width: 100%; height: auto } svg rect { fill: var(--bar) } svg text { fill: var(--soft); font-size: 9px } svg line { stroke: var(--line) }
.painting { display: grid; grid-template-columns: 13rem 1fr; gap: 1rem 1.5rem; padding: 1.2rem 0; border-bottom: 1px solid var(--line) } .painting img { width: 100%; border: 1px solid var(--line) }
.texts { display: grid; grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr)); gap: 1rem } .texts p { margin: 0 } ins { background: var(--good); text-decoration: none } del { background: var(--bad); text-decoration: none }
@media (max-width: 40rem) { .plots { grid-template-columns: 1fr 1fr !important } .painting { grid-template-columns: 1fr } .painting img { max-width: 16rem } }
";

/// Links to the sections, and the legend of the colours.
const LEGEND: &str = "<nav class=\"soft\"><a href=\"#distribution\">distribution</a><a href=\"#best\">best</a><a href=\"#worst\">worst</a><a href=\"#improved\">most improved</a></nav>\n<p class=\"soft\">In the texts: <ins>words that a reference has too</ins>; in the references: <del>words that the last system's text lacks</del>.</p>\n";

impl Report<'_> {
    /// Renders the page. `picture` returns the URL of a painting's picture; a `data:` URI makes the
    /// page self-contained.
    #[must_use]
    pub fn html(
        &self,
        scorer: &Scorer,
        mut picture: impl FnMut(&TestPainting) -> Option<String>,
    ) -> String {
        let frame = HtmlPage {
            title: self.title,
            colors: &COLORS,
            style: STYLE,
            reload_after: None,
        };
        let mut page = frame.start();
        let _ = writeln!(
            page,
            "<p class=\"soft\">{} paintings, {} references each. Scores from 0 to 100, each with its 95 % bootstrap confidence interval.</p>",
            self.paintings.len(),
            self.references()
        );
        page.push_str(LEGEND);
        for notice in self.notices {
            let _ = writeln!(page, "<p class=\"notice\">{}</p>", escape(notice));
        }
        self.table(&mut page);
        self.signatures(&mut page, scorer);
        self.distributions(&mut page);
        self.galleries(&mut page, &mut picture);
        self.exclusions(&mut page);
        page
    }

    fn references(&self) -> usize {
        self.paintings
            .first()
            .map_or(0, |painting| painting.references.len())
    }

    fn table(&self, page: &mut String) {
        page.push_str("<div class=\"scroll\"><table><tr><th>system");
        for column in self.columns {
            let _ = write!(page, "<th>{}", column.name());
        }
        for (at, system) in self.systems.iter().enumerate() {
            let scored = system.paintings.iter().flatten().count();
            let _ = write!(
                page,
                "\n<tr><td>{}<br><small>{scored} texts</small>",
                escape(&system.name)
            );
            for (interval, comparison) in self.intervals[at].iter().zip(&self.comparisons[at]) {
                let _ = write!(
                    page,
                    "<td>{:.2}<br><small>{:.2} to {:.2}</small>",
                    interval.score, interval.low, interval.high
                );
                if let Some(c) = comparison {
                    let _ = write!(
                        page,
                        "<br><small>{:+.2}, {}</small>",
                        c.difference,
                        escape(&c.p_text())
                    );
                }
            }
        }
        page.push_str("</table></div>\n");
        if let [first, _, ..] = self.systems {
            let _ = writeln!(
                page,
                "<p class=\"soft\">Second line: the 95 % bootstrap confidence interval. Third line: the difference to {} on the paintings that both have, with the two-sided p-value of the paired bootstrap (<= marks the smallest possible one).</p>",
                escape(&first.name)
            );
        }
    }

    fn signatures(&self, page: &mut String, scorer: &Scorer) {
        page.push_str(
            "<details><summary class=\"soft\">How these scores are computed</summary><p>",
        );
        for column in self.columns {
            let signature = scorer.signature(*column, reference_count(self.paintings));
            let _ = write!(page, "<code>{}</code><br>", escape(&signature.to_string()));
        }
        page.push_str("</details>\n");
    }

    fn distributions(&self, page: &mut String) {
        const BINS: usize = 20;
        page.push_str("<h2 id=\"distribution\">Distribution of the scores</h2>\n");
        for column in self.columns.iter().take(4) {
            let _ = write!(
                page,
                "<div class=\"plots\" style=\"grid-template-columns: repeat({}, minmax(0, 16rem))\"><h3>{}</h3>",
                self.systems.len().clamp(1, 6),
                column.name()
            );
            for system in self.systems {
                let mut bins = [0_usize; BINS];
                for scores in system.paintings.iter().flatten() {
                    let bin = (scores.get(*column) / 100.0 * BINS as f64) as usize;
                    bins[bin.min(BINS - 1)] += 1;
                }
                let most = bins.iter().copied().max().unwrap_or(1).max(1);
                let _ = write!(
                    page,
                    "<figure><svg viewBox=\"0 0 220 92\" role=\"img\" aria-label=\"{} of {}\">",
                    column.name(),
                    escape(&system.name)
                );
                for (bin, count) in bins.iter().enumerate() {
                    let height = 70.0 * *count as f64 / most as f64;
                    let _ = write!(
                        page,
                        "<rect x=\"{}\" y=\"{:.1}\" width=\"9\" height=\"{height:.1}\"><title>{count} texts from {} to {}</title></rect>",
                        10 + 10 * bin,
                        76.0 - height,
                        bin * 100 / BINS,
                        (bin + 1) * 100 / BINS
                    );
                }
                let _ = write!(
                    page,
                    "<line x1=\"10\" y1=\"76\" x2=\"210\" y2=\"76\"/><text x=\"8\" y=\"88\">0</text><text x=\"105\" y=\"88\">50</text><text x=\"198\" y=\"88\">100</text></svg><figcaption>{}</figcaption></figure>",
                    escape(&system.name)
                );
            }
            page.push_str("</div>\n");
        }
    }

    fn galleries(
        &self,
        page: &mut String,
        picture: &mut impl FnMut(&TestPainting) -> Option<String>,
    ) {
        // METEOR if it is a column, because the column is the mean of the paintings' scores.
        let column = self.columns.iter().find(|column| **column == Score::Meteor);
        let (Some(first), Some(last), Some(&column)) = (
            self.systems.first(),
            self.systems.last(),
            column.or(self.columns.first()),
        ) else {
            return;
        };
        let score = |system: &SystemScores, at: usize| {
            system.paintings[at].map(|scores| scores.get(column))
        };
        let ranked = |figure: &dyn Fn(usize) -> Option<f64>| {
            let mut ranked: Vec<(f64, usize)> = (0..self.paintings.len())
                .filter_map(|at| Some((figure(at)?, at)))
                .collect();
            ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
            ranked
        };
        let best = ranked(&|at| score(last, at));
        let mut galleries = vec![
            ("Best", "best", best.clone()),
            ("Worst", "worst", best.into_iter().rev().collect()),
        ];
        if self.systems.len() > 1 {
            let gained = ranked(&|at| Some(score(last, at)? - score(first, at)?));
            galleries.push(("Most improved", "improved", gained));
        }
        for (name, anchor, ranked) in galleries {
            let _ = writeln!(
                page,
                "<h2 id=\"{anchor}\">{name} of {} by {}</h2>",
                escape(&last.name),
                column.name()
            );
            for (figure, at) in ranked.into_iter().take(self.shown) {
                let address = picture(&self.paintings[at]);
                self.painting(page, at, figure, address.as_deref());
            }
        }
    }

    fn painting(&self, page: &mut String, at: usize, figure: f64, address: Option<&str>) {
        let painting = &self.paintings[at];
        let name = escape(&painting_name(painting));
        page.push_str("<div class=\"painting\"><figure>");
        if let Some(address) = address {
            let _ = write!(page, "<img src=\"{address}\" alt=\"{name}\">");
        }
        let _ = write!(
            page,
            "<figcaption>{name}, {figure:+.1}</figcaption></figure><div class=\"texts\">"
        );
        let wanted: BTreeSet<String> = painting
            .references
            .iter()
            .flat_map(|text| rouge_words(text, true))
            .collect();
        let last = self
            .systems
            .last()
            .and_then(|system| system.texts[at].as_deref());
        let said: BTreeSet<String> = last
            .into_iter()
            .flat_map(|text| rouge_words(text, true))
            .collect();
        for (number, reference) in painting.references.iter().enumerate() {
            let marked = mark(reference, "del", |word| !said.contains(word));
            let _ = write!(
                page,
                "<div><h3>reference {}</h3><p>{marked}</div>",
                number + 1
            );
        }
        for system in self.systems {
            if let (Some(text), Some(scores)) = (&system.texts[at], &system.paintings[at]) {
                let marked = mark(text, "ins", |word| wanted.contains(word));
                let figures: Vec<String> = self
                    .columns
                    .iter()
                    .take(4)
                    .map(|column| format!("{} {:.1}", column.name(), scores.get(*column)))
                    .collect();
                let _ = write!(
                    page,
                    "<div><h3>{}</h3><p>{marked}<br><small>{}</small></div>",
                    escape(&system.name),
                    figures.join(", ")
                );
            }
        }
        page.push_str("</div></div>\n");
    }

    fn exclusions(&self, page: &mut String) {
        for system in self
            .systems
            .iter()
            .filter(|system| !system.exclusions.is_empty())
        {
            let _ = write!(
                page,
                "<h2>Excluded from {}: {}</h2><ul>",
                escape(&system.name),
                system.exclusions.len()
            );
            for exclusion in &system.exclusions {
                let _ = write!(page, "<li>{}", escape(&exclusion.to_string()));
            }
            page.push_str("</ul>\n");
        }
    }
}

/// A text with the words marked whose stems are chosen.
fn mark(text: &str, tag: &str, choose: impl Fn(&str) -> bool) -> String {
    let mut marked = String::with_capacity(2 * text.len());
    for word in text.split_inclusive(char::is_whitespace) {
        let stems = rouge_words(word, true);
        let body = word.trim_end();
        let blank = &word[body.len()..];
        if !stems.is_empty() && stems.iter().all(|stem| choose(stem)) {
            let _ = write!(marked, "<{tag}>{}</{tag}>{blank}", escape(body));
        } else {
            marked.push_str(&escape(word));
        }
    }
    marked
}
