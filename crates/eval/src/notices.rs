//! Warnings about texts that a score cannot judge: texts in which its tokenizer finds no words, or
//! one word per sentence.

use gallery_gpt_data::TestPainting;

use crate::{Rouge, RougeKind, Scorer, SystemScores, WordTokenizer};

impl Scorer {
    /// A sentence for every kind of text that these scores cannot judge: texts without a single
    /// word for a score's tokenizer, which score 0 in any case, and texts in a script that it does
    /// not split. Empty for English.
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
                    "{scores}: {found} of {} texts, references included, {what} (tokenizer: {words}); choose a tokenizer for their \
                     language (zh, char, intl), as these scores are not meaningful",
                    texts.len()
                ));
            }
        };
        let rouge = Rouge {
            tokenizer: self.tokenizer(),
            ..Rouge::new(RougeKind::L)
        };
        let name = self.tokenizer().map_or("a-z0-9", WordTokenizer::name);
        count(
            "ROUGE",
            name,
            "consist mostly of letters that this tokenizer drops",
            &|text| {
                let letters = text.chars().filter(|c| c.is_alphabetic()).count();
                let kept = text.chars().filter(char::is_ascii_alphabetic).count();
                rouge.word_count(text) == 0 || (self.tokenizer().is_none() && 2 * kept < letters)
            },
        );
        let whole = |tokenizer: WordTokenizer| move |text: &str| tokenizer.cannot_split(text);
        let what =
            "are in a script without spaces, in which this tokenizer finds one word per sentence";
        let (bleu, meteor) = (self.bleu_tokenizer(), self.meteor_tokenizer());
        if bleu == meteor {
            count("BLEU, GLEU and METEOR", bleu.name(), what, &whole(bleu));
        } else {
            count("BLEU and GLEU", bleu.name(), what, &whole(bleu));
            count("METEOR", meteor.name(), what, &whole(meteor));
        }
        if let Some(words) = self.tokenizer() {
            count("ROUGE", words.name(), what, &whole(words));
        }
        notices
    }
}
