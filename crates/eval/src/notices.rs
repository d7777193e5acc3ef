//! What a table should not be read without: texts in which a score finds no words, or takes a sentence for one.

use gallery_gpt_data::TestPainting;

use crate::{Rouge, RougeKind, Scorer, SystemScores, Words};

impl Scorer {
    /// A sentence for every kind of texts that these scores cannot judge: those without a single word by a score's definition,
    /// whose score is 0 whatever they say, and those in a script that its words do not cut. Empty for English.
    #[must_use]
    pub fn notices(&self, paintings: &[TestPainting], systems: &[SystemScores]) -> Vec<String> {
        let predictions = systems.iter().flat_map(|system| {
            let texts = system.texts.iter().flatten();
            texts.map(String::as_str)
        });
        let references = paintings
            .iter()
            .flat_map(|painting| painting.references.iter().map(String::as_str));
        let texts: Vec<&str> = references.chain(predictions).collect();
        let mut notices = Vec::new();
        let mut count = |scores: &str, words: &str, what: &str, is_one: &dyn Fn(&str) -> bool| {
            let found = texts.iter().filter(|text| is_one(text)).count();
            if found > 0 {
                notices.push(format!(
                    "{scores}: {found} of {} texts, references included, {what} (words: {words}); choose words for their \
                     language (zh, char, intl) instead of trusting these scores",
                    texts.len()
                ));
            }
        };
        let rouge = Rouge {
            words: self.words(),
            ..Rouge::new(RougeKind::L)
        };
        let name = self.words().map_or("a-z0-9", Words::name);
        count(
            "ROUGE",
            name,
            "are mostly of letters that these words leave out",
            &|text| {
                let letters = text.chars().filter(|c| c.is_alphabetic()).count();
                let kept = text.chars().filter(char::is_ascii_alphabetic).count();
                rouge.word_count(text) == 0 || (self.words().is_none() && 2 * kept < letters)
            },
        );
        let whole = |words: Words| move |text: &str| words.leaves_whole(text);
        let what = "are in a script without blanks, of which a whole sentence counts as one word";
        let (bleu, meteor) = (self.bleu_words(), self.meteor_words());
        if bleu == meteor {
            count("BLEU, GLEU and METEOR", bleu.name(), what, &whole(bleu));
        } else {
            count("BLEU and GLEU", bleu.name(), what, &whole(bleu));
            count("METEOR", meteor.name(), what, &whole(meteor));
        }
        if let Some(words) = self.words() {
            count("ROUGE", words.name(), what, &whole(words));
        }
        notices
    }
}
