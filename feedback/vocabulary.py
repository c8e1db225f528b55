"""Families of words that an answer's style is counted in.

Knows words; knows nothing of texts, thumbs or tastes. The families are those that stylometry and psycholinguistics
count in any text (LIWC's categories: Pennebaker et al. 2015, "The development and psychometric properties of
LIWC2015"), each filled with its commonest English members.
"""

from __future__ import annotations

import re

WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")


def family(words: str) -> frozenset[str]:
    """The words of a line of them."""
    return frozenset(WORD.findall(words))


FIRST_PERSON = family("i me my mine myself we us our ours ourselves i'm i've i'd i'll we're we've we'll")
SECOND_PERSON = family("you your yours yourself yourselves you're you've you'd you'll")
THIRD_PERSON = family("he him his she her hers they them their theirs themselves himself herself")
ARTICLES = family("the a an")
HEDGES = family("may might maybe perhaps possibly probably could seems seem likely sometimes usually often")
STRENGTHENERS = family(
    "very really extremely absolutely completely totally truly incredibly definitely always never"
)
NEGATIONS = family(
    "no not never nothing none nobody neither nor without cannot can't don't doesn't didn't isn't aren't wasn't"
    " weren't won't wouldn't shouldn't couldn't haven't hasn't"
)
DUTIES = family("should must need needs ought required require requires essential necessary important")
FUTURE = family("will shall going i'll you'll we'll they'll it'll tomorrow soon future")
PAST = family("was were had did been became began made took went said came used ago once")
POSITIVE = family(
    "good great best better nice happy happiness love loved lovely enjoy enjoyable fun beautiful wonderful amazing"
    " fantastic excellent perfect delicious exciting pleasant joy success successful positive favourite favorite"
    " comfortable healthy easy safe proud"
)
NEGATIVE = family(
    "bad worse worst sad angry afraid fear hate hard difficult problem problems pain hurt wrong fail failure poor"
    " danger dangerous risk stress stressful worry worried anxious lonely ugly terrible awful sick tired lose loss"
)
POLITENESS = family(
    "please thank thanks sorry welcome appreciate appreciated kindly glad pleased apologise apologize excuse pardon"
    " grateful"
)
REASONS = family("because since therefore thus hence so reason reasons cause causes due result results why")
CONTRASTS = family("but however although though while whereas instead yet despite unlike rather otherwise")
ORDER = family(
    "first firstly second secondly third next then finally last lastly before after once begin start step"
)
EXAMPLES = family("example examples instance such like including include includes namely")
QUANTITIES = family(
    "one two three four five six seven eight nine ten many much few several some most all both every each lot"
)
COMPARISONS = family(
    "more less than better worse best worst most least bigger smaller larger same different as"
)
SOCIAL = family(
    "friend friends family people person parents mother father child children team group together share talk"
    " community colleagues neighbours neighbors someone everyone others"
)
SENSES = family(
    "see look watch hear listen sound feel touch taste smell bright dark warm cold soft sweet loud quiet colour color"
    " colourful colorful light red blue green white black"
)
THOUGHT = family(
    "think know understand believe consider remember learn idea ideas mean means realise realize wonder decide"
)
FEELINGS = family(
    "feel feeling feelings emotion emotions mood heart hope trust calm care caring relax relaxed"
)
REPLIES = family(
    "sure certainly yes no well okay ok great hello hi hey thanks thank sorry absolutely indeed oh ah wow welcome"
)
COMMANDS = family(
    "add ask avoid be begin bring build buy call check choose clean close combine consider cook create cut decide do"
    " don't drink eat enjoy ensure explore find focus follow get give go have help identify imagine include join keep"
    " learn let listen look make meet mix open pack plan play pour practice practise prepare put read remember remove"
    " rest save see set share sit speak spend start stay stop take talk think try turn use visit wait walk wash watch"
    " wear work write"
)
