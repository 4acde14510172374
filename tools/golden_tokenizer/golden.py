"""Writes the golden files of data/testdata/tokenizer with Hugging Face's tokenizers.

    python -m venv env && env/bin/pip install tokenizers==0.23.3
    env/bin/python tools/golden_tokenizer/golden.py

The vocabulary is trained on corpus.txt; the texts are made here. The tests of package data compare with what this
wrote and need no Python.
"""

import json
import pathlib
import random

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

HERE = pathlib.Path(__file__).resolve().parents[2] / "data" / "testdata" / "tokenizer"
VOCAB = 600
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

TEXTS = [
    "", " ", "  ", "\n", "a", "Hello, world!", " leading and trailing ", "two  spaces   three    four",
    "it's we've they'll I'd I'm you're can't 'tis ' s 'x IT'S WE'VE THEY'LL O'ſ 'ſ", "''s '''re", "don't won't shan't",
    "tab\tand\ttabs\t\t\tend\t", "line\nline\n\nline\n\n\nend", "line\r\nline\r\n\r\nend\r\n", " \n \n\t\n x", "a \n b",
    "trailing   \n   leading", "foo;\n\nbar;\n", "(a)\n\n\n(b)  \n", "nbsp\u00a0nbsp\u00a0\u00a0two", "\u3000ideographic\u3000space",
    "\u2028line sep\u2029para sep\u0085next", "zero\u200bwidth\u200djoin\ufeffbom", "1 12 123 1234 12345 123456789 3.14159 1e-9",
    "½ ² Ⅷ ١٢٣ 四 a1b22c333", "x=1;y=22;z=333\n", "func main() {\n\tfmt.Println(\"hi\")\n}\n", "for i := 0; i < 10; i++ { s += i*i }",
    "def f(x):\n    return x**2  # comment\n\n\nclass A:\n        pass\n", "<|endoftext|>", "a<|endoftext|>b", "<|endoftext|><|endoftext|>",
    "<|endoftex", "<<plain>> and <plain>", "Straße Fluß ÜBER naïve café Ångström", "Кулики летят стаями", "海辺の鳥は群れで飛ぶ。誰も先導しない。",
    "滨鹬成群飞翔,没有首领", "도요새는 무리를", "الطيور تطير معا", "ציפורים עפות", "नमस्ते दुनिया", "🐦 🐦‍⬛ 👩🏽‍🚀 🇩🇪 ❤️ 🤖🤖🤖", "a🐦b 🐦c",
    "e\u0301 combining \u0301alone", "\ufffd replacement", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝟘𝟙𝟚", "ab" * 200, "=" * 300 + "\n" + "-" * 129, " " * 200 + "x",
    "the " * 50, "Aa" * 100 + "!" * 100, "...!?;:'\"()[]{}<>@#$%^&*-_=+/\\|~`", "!word ?word .word #tag @name -x _y", "\u00a0word \u00a0word \tword",
    "\x00\x01\x02 control \x7f", "a\x0bb\x0cc\x1cd\x1ee",
]


def random_texts(rng, count):
    """Texts of the characters that the rules tell apart, so that all their borders occur."""
    alphabet = "aZé海1٣½ \n\r\t\u00a0'.!🐦\u0301sSreRE" + "'  "
    return ["".join(rng.choice(alphabet) for _ in range(rng.randint(1, 40))) for _ in range(count)]


def base(pre):
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre
    tok.decoder = decoders.ByteLevel()
    return tok


def main():
    level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok = base(level)
    trainer = trainers.BpeTrainer(vocab_size=VOCAB, min_frequency=2, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tok.train_from_iterator([(HERE / "corpus.txt").read_text(encoding="utf-8")], trainer)
    tok.add_special_tokens(["<|endoftext|>"])
    tok.add_tokens(["<<plain>>"])
    tok.save(str(HERE / "tokenizer.json"))

    def split(expression):
        return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(expression), "isolated"),
                                        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])

    ways = {
        "gpt2": (level, False), "gpt2-split": (split(GPT2), False), "llama3": (split(LLAMA3), True), "qwen2": (split(QWEN2), False),
        "digits": (pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), level]), False),
    }
    texts = TEXTS + random_texts(random.Random(1), 150)
    golden = {"texts": texts, "ways": {}}
    for name, (pre, ignore_merges) in ways.items():
        tok.pre_tokenizer = pre
        whole = json.loads(tok.to_str())
        whole["model"]["ignore_merges"] = ignore_merges
        variant = Tokenizer.from_str(json.dumps(whole))
        special = [variant.encode(t, add_special_tokens=False).ids for t in texts]
        variant.encode_special_tokens = True
        plain = [variant.encode(t, add_special_tokens=False).ids for t in texts]
        golden["ways"][name] = {"pre_tokenizer": whole["pre_tokenizer"], "ignore_merges": ignore_merges, "plain": plain,
                                "special": {str(i): s for i, s in enumerate(special) if s != plain[i]}}
    rows = json.dumps(golden, ensure_ascii=True).replace("], [", "],\n[")
    (HERE / "golden.json").write_text(rows + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
