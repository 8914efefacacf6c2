"""What was said and what is true of it, as varied as texts come: for metrics of written texts.

Scripts without blanks between words, marks at every edge, numbers, entities, broken lines, texts
that are empty, too short for a length of n-grams, repeated, or far longer than what is true.
"""

from __future__ import annotations

# Each with what is true: one text, or several.
SENTENCES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("The dog bit the man.", ("The dog bit the man.", "The dog had bit the man.")),
    ("It wasn't surprising.", ("It was not unexpected.", "No one was surprised.")),
    ("", ("A text that nobody wrote.",)),
    ("Somebody wrote of nothing at all.", ("",)),
    ("", ("",)),
    ("   \t ", ("Only blanks were said.",)),
    ("yes", ("no",)),
    ("yes", ("yes",)),
    ("a", ("abcdefgh",)),
    ("one word after another word", ("one",)),
    ("the the the the the the the", ("The cat is on the mat.", "There is a cat on the mat.")),
    ("na na na na na na na na, hey hey hey", ("na na na na, hey hey, goodbye",)),
    ("mat the on sat cat the", ("the cat sat on the mat",)),
    ("THE CAT SAT ON THE MAT!", ("the cat sat on the mat",)),
    ("The cat sat", ("The cat sat on the mat, and there it stayed until the evening came.",)),
    (
        "The cat sat on the mat, and there it stayed until the evening came, or so they said.",
        ("The cat sat.", "The cat sat on the mat, and there it stayed until the end."),
    ),
    ("It cost 1,000.50 dollars in 1999-2000, 3-4 times more.", ("It cost 1000.50 dollars.",)),
    ('"Well," she said, "that\'s—no, it isn\'t—true…"', ("«Well», she said: “that is not true”.",)),
    ("...", ("...",)),
    ("?!", ("!?", "?", "!")),
    ("[a] {b} (c) <d> e/f g\\h i|j k~l m^n o_p q`r s@t #u $v 5%", ("a b c d e f g h i j k l m n",)),
    ("R&amp;D &lt;b&gt;&quot;bold&quot;&lt;/b&gt; &amp;lt;", ('R&D <b>"bold"</b> <',)),
    ("a hyphen-\nated word\nbroken in lines", ("a hyphenated word broken in lines",)),
    ("a line that ends with a hyphen-\n", ("a line that ends with a hyphen-",)),
    ("\n\nlines before and after\n\n", ("lines before and after",)),
    ("A <skipped> word and another.", ("A word and another.", "<skipped>")),
    ("See https://example.org/a?b=c&d=e, v2.0.1!", ("See https://example.org/a, version 2.0.1!",)),
    ("Größere Häuser kosten 3,5 Mio. €.", ("Große Häuser kosten 3.5 Millionen Euro.",)),
    ("L’été, c’est « chouette » !", ("L'été c'est chouette !", "Que l’été est beau !")),
    ("Быстрая лиса прыгает через собаку.", ("Быстрая рыжая лиса перепрыгнула через собаку.",)),
    ("猫坐在垫子上。", ("那只猫坐在垫子上。", "垫子上有一只猫。")),
    ("吾輩は猫である。名前はまだ無い。", ("吾輩は犬である。\u3000名前はまだない。",)),
    ("القط جلس على السجادة.", ("جلس القط على السجادة!",)),
    ("बिल्ली चटाई पर बैठी।", ("बिल्ली चटाई पर बैठी है।",)),
    ("cafe\u0301 nai\u0308ve", ("café naïve",)),
    ("non\u00a0breaking\u2009blanks\u2028and lines", ("non breaking blanks and lines",)),
    ("zero\u200bwidth \ufeffmark soft\u00adhyphen", ("zerowidth mark softhyphen",)),
    ("👩‍👩‍👧 🎉🎉🎉 😀", ("👩‍👩‍👧‍👦 🎉 😀😀",)),
    ("１２３．４５ － ６", ("123.45 - 6",)),
    ("x = y[0] + 3.0e-5;  // done", ("x = y[0] + 3e-5; # done",)),
)
