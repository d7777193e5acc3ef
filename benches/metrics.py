"""Scores the pairs of a JSON file with nltk, sacreBLEU and rouge-score; prints seconds and scores as JSON."""

import json
import sys
import time

import sacrebleu
from nltk.tokenize import TreebankWordTokenizer
from nltk.translate.bleu_score import corpus_bleu
from nltk.translate.gleu_score import corpus_gleu
from nltk.translate.meteor_score import meteor_score
from rouge_score import rouge_scorer
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a


class NoWordNet:
    """METEOR by exact words and stems, as on the other side."""

    def synsets(self, word):
        return []


def mean(scores):
    return sum(scores) / len(scores)


def words_13a(pairs):
    cut = Tokenizer13a()
    return (
        [cut(pair["text"].rstrip()).split() for pair in pairs],
        [[cut(text).split() for text in pair["references"]] for pair in pairs],
    )


def sacre_bleu(pairs):
    texts = [pair["text"] for pair in pairs]
    streams = list(zip(*(pair["references"] for pair in pairs)))
    return sacrebleu.metrics.BLEU().corpus_score(texts, streams).score / 100


def nltk_bleu(pairs):
    texts, references = words_13a(pairs)
    return corpus_bleu(references, texts)


def gleu(pairs):
    texts, references = words_13a(pairs)
    return corpus_gleu(references, texts)


def meteor(pairs):
    cut = TreebankWordTokenizer().tokenize
    wordnet = NoWordNet()
    return mean(
        [
            meteor_score([cut(text) for text in pair["references"]], cut(pair["text"]), wordnet=wordnet)
            for pair in pairs
        ]
    )


def rouge(kind):
    def score(pairs):
        scorer = rouge_scorer.RougeScorer([kind], use_stemmer=False)
        return mean(
            [scorer.score_multi(pair["references"], pair["text"])[kind].fmeasure for pair in pairs]
        )

    return score


METRICS = {
    "BLEU, sacreBLEU": sacre_bleu,
    "BLEU, nltk": nltk_bleu,
    "GLEU, nltk": gleu,
    "METEOR, nltk": meteor,
    "ROUGE-1": rouge("rouge1"),
    "ROUGE-2": rouge("rouge2"),
    "ROUGE-L": rouge("rougeL"),
    "ROUGE-Lsum": rouge("rougeLsum"),
}

with open(sys.argv[1], encoding="utf-8") as file:
    PAIRS = json.load(file)
RESULT = {}
for name, metric in METRICS.items():
    start = time.perf_counter()
    score = metric(PAIRS)
    RESULT[name] = {"seconds": time.perf_counter() - start, "score": score}
print(json.dumps(RESULT))
