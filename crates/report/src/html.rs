//! The frame of a page: its head, the style that pages share, and its heading.

/// A colour of the style, in a light and in a dark window.
#[derive(Clone, Copy, Debug)]
pub struct Color<'a> {
    /// Name of the custom property, without its two hyphens.
    pub name: &'a str,
    /// The colour in a light window.
    pub light: &'a str,
    /// The colour in a dark window.
    pub dark: &'a str,
}

const fn color(name: &'static str, light: &'static str, dark: &'static str) -> Color<'static> {
    Color { name, light, dark }
}

/// The colours that every page has.
const SHARED: [Color<'_>; 4] = [
    color("ink", "#1d1b16", "#ece7db"),
    color("paper", "#fbf9f4", "#191713"),
    color("line", "#d8d2c4", "#3c382f"),
    color("soft", "#6d6758", "#a39c8b"),
];

/// The rules that every page has, below its colours.
const STYLE: &str = "* { box-sizing: border-box }
body { margin: 0 auto; max-width: 72rem; padding: 1.5rem 1rem 4rem; background: var(--paper); color: var(--ink); font: 1rem/1.5 Georgia, 'Times New Roman', serif }
h1, h2, h3 { font-weight: 600; line-height: 1.2 }
";

/// CSS that defines the colours `ink`, `paper`, `line` and `soft` and those given, for light and dark windows.
#[must_use]
pub fn color_rules(own: &[Color<'_>]) -> String {
    let properties = |value: fn(&Color<'_>) -> String| -> String {
        SHARED
            .iter()
            .chain(own)
            .map(value)
            .collect::<Vec<_>>()
            .join(";")
    };
    format!(
        ":root {{ color-scheme: light dark;{} }}\n@media (prefers-color-scheme: dark) {{ :root {{{} }} }}\n",
        properties(|color| format!("--{}: {}", color.name, color.light)),
        properties(|color| format!("--{}: {}", color.name, color.dark)),
    )
}

/// The frame of a self-contained page.
#[derive(Clone, Copy, Debug, Default)]
pub struct HtmlPage<'a> {
    /// Title and heading.
    pub title: &'a str,
    /// Colours beside the shared ones.
    pub colors: &'a [Color<'a>],
    /// CSS below the shared rules.
    pub style: &'a str,
    /// After how many seconds the page reloads itself.
    pub reload_after: Option<u32>,
}

impl HtmlPage<'_> {
    /// The page up to its heading; the body is written behind it. HTML needs no end of `body` and `html`.
    #[must_use]
    pub fn start(&self) -> String {
        let title = escape(self.title);
        let reload = self.reload_after.map_or_else(String::new, |seconds| {
            format!("<meta http-equiv=\"refresh\" content=\"{seconds}\">\n")
        });
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n{reload}<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n<style>\n{}{STYLE}{}</style>\n<h1>{title}</h1>\n",
            color_rules(self.colors),
            self.style
        )
    }
}

/// A text as HTML, also within a quoted attribute.
#[must_use]
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_starts_with_its_head_and_heading() {
        let page = HtmlPage {
            title: "a < b",
            colors: &[color("bar", "#111111", "#eeeeee")],
            style: "h1 { font-size: 2rem }\n",
            reload_after: Some(30),
        };
        let start = page.start();
        assert!(start.starts_with("<!doctype html>\n<html lang=\"en\">"));
        assert!(start.contains("<meta http-equiv=\"refresh\" content=\"30\">"));
        assert!(start.contains("<title>a &lt; b</title>"));
        assert!(start.contains(";--bar: #111111 }\n@media"), "{start}");
        assert!(start.contains(";--bar: #eeeeee } }\n*"), "{start}");
        assert!(start.ends_with("h1 { font-size: 2rem }\n</style>\n<h1>a &lt; b</h1>\n"));
        let still = HtmlPage {
            reload_after: None,
            ..page
        };
        assert!(!still.start().contains("refresh"));
    }

    #[test]
    fn nothing_of_a_text_is_read_as_html() {
        assert_eq!(escape("<\"&\">"), "&lt;&quot;&amp;&quot;&gt;");
    }
}
