"""The closed vocabulary of units and of things that are counted; of an answer no other word is one.

Units are told apart and never converted: a right number with another unit is another answer. A units library would add
conversions and a dependency that nothing here uses.
"""

from __future__ import annotations

import re
from functools import lru_cache

_PREFIXES = {"k": "kilo", "c": "centi", "m": "milli", "n": "nano", "µ": "micro", "M": "mega", "G": "giga", "d": "deci"}
_PREFIXES |= {"h": "hecto", "p": "pico", "T": "tera"}
_SI = {"m": "meter metre", "g": "gram", "s": "second", "L": "liter litre", "J": "joule", "W": "watt", "N": "newton"}
_SI |= {"Pa": "pascal", "Hz": "hertz", "V": "volt", "A": "ampere amp", "eV": "electronvolt", "cal": "calorie"}
_SI |= {"mol": "mole", "B": "byte", "Ω": "ohm", "F": "farad", "C": "coulomb", "K": "kelvin", "bit": "bit"}
_OTHERS = (  # symbol:names
    "in:inch,inches ft:foot,feet yd:yard mi:mile lb:lbs,pound oz:ounce t:ton,tonne acre: ha:hectare min:minute,mins "
    "h:hr,hrs,hour day: week: month: yr:year decade: century:centuries $:dollar,usd,buck cent:¢ €:euro,eur £:gbp "
    "¥:yen,jpy yuan:rmb,cny ₹:rupee,inr ruble: ₩:won peso: franc: °:deg,degree °C:celsius °F:fahrenheit rad:radian "
    "mi/h:mph km/h:kph,kmh,kmph gal:gallon quart: pint: cup: knot: rpm: lightyear: kW*h:kwh Mb:megabit Mbps: cc: am: pm: "
    "revolution: unit: kg:kilo,kgs rod: s:sec,secs"
)
_COUNTED = (
    "apple orange egg cookie cake pie pizza slice piece book page card stamp coin bill ticket seat chair table room "
    "house car bus bike truck train boat plane person people man men woman women child children kid boy girl "
    "student teacher friend player team worker member adult customer guest vote point goal game match race lap step "
    "trip time way solution root integer number digit value term letter word side vertex vertices edge face "
    "diagonal square triangle circle tile block cube box bag bottle can jar glass basket bucket pack packet package "
    "row column ball marble bead pencil pen crayon toy doll shirt sock shoe pair hat dress flower tree plant leaf "
    "leaves seed fruit vegetable carrot potato tomato banana pear peach grape berry cow pig horse sheep chicken "
    "duck bird fish dog cat rabbit bear animal pet leg candy chocolate sandwich meal serving gift present item "
    "object question problem test exam lesson class grade visit photo picture video song movie message call ribbon "
    "string rope stick stone brick nail wheel light lamp window door arrangement permutation combination outcome "
    "possibility case subset function path route lot batch shelf shelves bouquet sheet dish plate spoon fork bolt "
    "scarf scarves glove pant bracelet necklace sticker marker balloon muffin cupcake donut brownie loaf loaves "
    "carton crate floor employee parent passenger painting group set part section shell seashell bean jellybean "
    "candle token brother sister chapter episode calorie mark tablespoon teaspoon bushel nickel dime penny lemon "
    "burger goat mouse mice frog insect bug tooth teeth earring button towel envelope chip nut pebble rock cap tire "
    "poster notebook eraser roll machine mistake lollipop container kitten puppy lamb hen penguin lion elephant "
    "turtle snake bee crab rat rose daisy petal branch cherry strawberry blueberry pancake cracker soda barrel tank "
    "tube tray bowl knife knives tool screw bulb wing ear eye finger toe arm bone feather ring coat jacket sweater "
    "skirt medal article newspaper magazine recipe story family pupil baby chick stair tent van load order mango "
    "watermelon pumpkin onion pepper mushroom acorn tin basketball racer singer"
)
# words that may stand beside them: what they are like, what they are made of
_BESIDE = (
    "more total left remaining extra additional different distinct other altogether whole full empty new old large small "
    "big red blue green yellow black white brown pink purple orange gold silver wooden male female flour sugar water milk "
    "rice corn meat paper food juice"
)
# words behind a number that are no thing, not even in a ground truth or where the question says them
NEVER = frozenset(
    "pi sqrt sin cos tan cot sec csc log ln exp or and to over times plus minus mod base choose if when where for "
    "percent is i e by than infinity inf not at half halves third thirds quarter quarters fourths fifth fifths sixths "
    "sevenths eighth eighths ninths tenth tenths hundredth hundredths thousandths squared cubed dozen dozens score "
    "hundred thousand million billion trillion infinite maybe".split()
)
SCALES = {"dozen": 12, "hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}


def _vocabulary() -> tuple[dict[str, str], dict[str, str]]:
    """({symbol: canonical unit}, {word: canonical unit, "" for a thing})."""
    symbols = {"l": "L", "ml": "mL", "gm": "g"}
    words = dict.fromkeys(f"{_COUNTED} {_BESIDE}".split(), "")
    for symbol, names in _SI.items():
        for prefix, long in [("", ""), *_PREFIXES.items()]:
            symbols[prefix + symbol] = prefix + symbol
            words |= {long + name: prefix + symbol for name in names.split()}
    for entry in _OTHERS.split():
        name, _, more = entry.partition(":")
        symbols.setdefault(name, name)
        words |= {word: name for word in [name.lower(), *more.split(",")] if word}
    return symbols, words


_SYMBOLS, _WORDS = _vocabulary()


def _stems(word: str) -> list[str]:
    """The word and what it may be the plural of."""
    endings = [("ies", "y"), ("es", ""), ("s", "")]
    return [word, *(word[: -len(end)] + singular for end, singular in endings if word.endswith(end))]


def _unit_of(word: str, trusted: bool) -> str | None:
    """The canonical unit of a word, "" for a thing that is counted, None for any other word."""
    if word in _SYMBOLS:
        return _SYMBOLS[word]
    low = word.lower()
    for stem in _stems(low):
        if len(stem) > 1 and stem in _WORDS:
            return _WORDS[stem]
    return "" if trusted and (len(low) > 2 or not low.isascii()) and low not in NEVER else None


_POWERS = {"square": "2", "sq": "2", "cubic": "3", "cu": "3", "squared": "2", "cubed": "3"}
_TOKEN = re.compile(r"(per(?= )|[^\W\d_]+|[°$€£¥₹₩¢][CF]?)\.?(?:\^\{?(-?\d)\}?)?|(/)|[ *]+")


@lru_cache(maxsize=8192)
def read_unit(text: str, trusted: bool = False) -> str | None:
    """The canonical unit of a phrase ("square inches" is "in^2"), "" for things that are counted, None when it is no unit.

    Args:
        text: letters, powers, spaces, `/` and `*`.
        trusted: whether a word outside the vocabulary counts as a thing that is counted (in a ground truth only).
    """
    text = re.sub(r"\b([ap])\.\s?m\b\.?", r"\1m", text.strip(), flags=re.IGNORECASE)
    names: list[tuple[str, str, bool]] = []  # unit, power, whether it stands below the fraction bar
    power, divided, i = "", False, 0
    while i < len(text):
        match = _TOKEN.match(text, i)
        if match is None:
            return None
        word, exponent, slash = match.groups()
        i = match.end()
        if slash or word == "per":
            divided = True
        elif word in ("squared", "cubed") and names and names[-1][0]:
            names[-1] = (names[-1][0], _POWERS[word], names[-1][2])
        elif word in _POWERS and word not in NEVER:
            power = _POWERS[word]
        elif word and word not in ("of", "the"):
            name = _unit_of(word, trusted)
            if name is None:
                return None
            if exponent and exponent.startswith("-"):
                divided, exponent = True, exponent[1:]
            names.append((name, exponent or power or "1", divided))
            power = ""
    if not names or divided and names[-1][0] == "cent":  # per cent
        return None
    if not all(name for name, _, _ in names):  # 3 pounds of flour
        return "" if len(names) == 1 else names[0][0]
    above, below = (
        sorted(name + ("" if exponent == "1" else "^" + exponent) for name, exponent, under in names if under is side)
        for side in (False, True)
    )
    return "/".join(["*".join(above), *below])


_THINGS = re.compile(r"(.*[\d)}]) ([A-Za-z]{3,}(?: [A-Za-z]{2,}){0,5})", re.DOTALL)


def without_things(answer: str, normalized: str, question: str) -> str:
    """`42 stickers` as `42` where the question speaks of stickers; any other answer as it is.

    Args:
        answer: the answer.
        normalized: the answer in one spelling (spelling.normalize).
        question: the problem's text.
    """
    match = _THINGS.fullmatch(normalized) if len(normalized) <= 200 else None
    if match is None:
        return answer
    asked = {stem for word in re.findall("[a-z]+", question.lower()) for stem in _stems(word)}
    words = [word for word in match[2].lower().split() if word != "of"]
    named = all(w not in NEVER and (_unit_of(w, False) is not None or asked.intersection(_stems(w))) for w in words)
    return match[1] if named else answer
