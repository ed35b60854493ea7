r"""The closed vocabulary of units and of things that are counted; a word that is not in it is no unit.

Units are told apart and never converted: a right number with another unit is another answer. A units library would add
conversions and a dependency that nothing here uses.
"""

import re
from functools import lru_cache

_PREFIXES = {"k": "kilo", "c": "centi", "m": "milli", "n": "nano", "µ": "micro", "M": "mega", "G": "giga", "d": "deci"}
_PREFIXES |= {"h": "hecto", "p": "pico", "T": "tera"}
_SI = {"m": "meter metre", "g": "gram", "s": "second", "L": "liter litre", "J": "joule", "W": "watt", "N": "newton"}
_SI |= {"Pa": "pascal", "Hz": "hertz", "V": "volt", "A": "ampere amp", "eV": "electronvolt", "cal": "calorie"}
_SI |= {"mol": "mole", "B": "byte", "Ω": "ohm", "F": "farad", "C": "coulomb", "K": "kelvin", "bit": "bit"}
_OTHERS = (
    "in:inch,inches ft:foot,feet yd:yard mi:mile lb:lbs,pound oz:ounce t:ton,tonne acre: ha:hectare min:minute "
    "h:hr,hrs,hour day: week: month: yr:year decade: century:centuries $:dollar,usd,buck cent:¢ €:euro,eur £:gbp "
    "¥:yen,jpy yuan:rmb,cny ₹:rupee,inr ruble: ₩:won peso: franc: °:deg,degree °C:celsius °F:fahrenheit rad:radian "
    "mi/h:mph km/h:kph,kmh,kmph gal:gallon quart: pint: cup: knot: rpm: lightyear: kW*h:kwh Mbps: cc: am: pm: "
    "revolution: unit: kg:kilo rod:"
)
_COUNTED = (
    "apple orange egg cookie cake pie pizza slice piece book page card stamp coin bill ticket seat chair table room "
    "house car bus bike truck train boat plane person people man men woman women child children kid boy girl student "
    "teacher friend player team worker member adult customer guest vote point goal game match race lap step trip time "
    "way solution root integer number digit value term letter word side vertex vertices edge face diagonal square "
    "triangle circle tile block cube box boxes bag bottle can jar glass glasses basket bucket pack packet package row "
    "column ball marble bead pencil pen crayon toy doll shirt sock shoe pair hat dress flower tree plant leaf leaves "
    "seed fruit vegetable carrot potato potatoes tomato tomatoes banana pear peach grape berry berries cow pig horse "
    "sheep chicken duck bird fish dog cat rabbit bear animal pet leg candy candies chocolate sandwich sandwiches meal "
    "serving gift present item object question problem test exam lesson class classes grade visit photo picture video "
    "song movie message call minute-hand ribbon string rope stick stone brick nail wheel light lamp window door arrangement "
    "permutation combination outcome possibility possibilities case subset function path route ordered-pair lot batch "
    "batches shelf shelves bouquet sheet dish dishes plate spoon fork bolt scarf scarves glove pant bracelet necklace"
)
NEVER = frozenset(
    "pi sqrt sin cos tan cot sec csc log ln exp or and to over times plus minus mod base choose if when where for "
    "percent is i e by than infinity inf not at half halves third thirds quarter quarters fourths fifth fifths sixths "
    "sevenths eighth eighths ninths tenth tenths hundredth hundredths thousandths squared cubed dozen dozens score "
    "hundred thousand million billion trillion infinite maybe".split()
)
# words behind the number of an answer that change it, bound it or take it back, besides NEVER: they name no thing
_NO_THING = NEVER | frozenset(
    "zero one two three four five six seven eight nine ten eleven twelve hundreds thousands millions billions "
    "trillions lakh lakhs crore crores gross mil thou thousandth myriad googol couple half fourth sixth seventh ninth "
    "double doubled triple tripled twice thrice quadruple quadrupled halve halved inverse reciprocal factorial negative "
    "positive opposite minus cube cubes power powers exponent modulo factor binary octal hex hexadecimal decimal decimals "
    "percents percentage percentages permille basis ppm add added subtract subtracted multiply multiplied divide divided "
    "raised tens ones halfs pis sum difference product quotient remainder repeating recurring per approx approximately about around "
    "roughly nearly almost least most maximum minimum max min below under above beyond between before after until "
    "exceeding exclusive excluding except without unless either neither nor none non cannot wrong incorrect false untrue "
    "invalid impossible unknown undefined but however instead rather actually wait versus perhaps possibly probably "
    "likely otherwise else also another equals equal det gcd lcm lim abc xyz alpha beta gamma delta epsilon zeta eta theta "
    "iota kappa lambda omega sigma tau phi psi chi rho degree degrees".split()
)
_NUMERAL = re.compile(
    r"\w*illion(?:th)?s?|\w*tieths?|(?:elev|sev)enths?|twelfths?|(?:thir|four|fif|six|seven|eigh|nine)teen\w*"
    r"|(?:twen|thir|for|fif|six|seven|eigh|nine)t(?:y|ies)\w*"
)
_FUNCTION = re.compile(r"(?:arc)?(?:sin|cos|tan|cot|sec|csc|log|ln|exp|sqrt)h?[abcntxyz]?")  # 5 sinx
SCALES = {"dozen": 12, "hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}


def _vocabulary():
    symbols, words = {}, {word: "" for word in _COUNTED.split()}
    for symbol, names in _SI.items():
        for prefix, long in [("", ""), *_PREFIXES.items()]:
            symbols[prefix + symbol] = prefix + symbol
            words |= {long + name: prefix + symbol for name in names.split()}
    for entry in _OTHERS.split():
        name, _, more = entry.partition(":")
        symbols[name] = name
        words |= {word: name for word in [name.lower(), *more.split(",")] if word}
    symbols |= {"l": "L", "ml": "mL", "gm": "g", "kgs": "kg", "sec": "s", "secs": "s", "mins": "min"}
    return symbols, {**words, "sec": "s", "secs": "s", "lbs": "lb"}


_SYMBOLS, _WORDS = _vocabulary()
_POWERS = {"square": "2", "sq": "2", "cubic": "3", "cu": "3"}
_TOKEN = re.compile(r"(per(?= )|[^\W\d_]+|[°$€£¥₹₩¢][CF]?)\.?(?:\^\{?(-?\d)\}?)?|(/)|[ *]+")


def _one(word, trusted):
    if word in _SYMBOLS:
        return _SYMBOLS[word]
    low = word.lower()
    for stem in (low, low[:-1] if low.endswith("s") else low, low[:-2] if low.endswith("es") else low):
        if len(stem) > 1 and stem in _WORDS:
            return _WORDS[stem]
    return "" if trusted and (len(low) > 2 or not low.isascii()) and low not in NEVER else None


@lru_cache(maxsize=8192)
def read_unit(text, trusted=False):
    """Return the canonical unit of a phrase ("square inches" is "in^2"), "" for things that are counted, None when it
    is no unit.

    Args:
      text: letters, powers, spaces, `/` and `*`.
      trusted: whether a word outside the vocabulary counts as a thing that is counted (in a ground truth only).
    """
    text = re.sub(r"\b([ap])\.\s?m\b\.?", r"\1m", text.strip(), flags=re.IGNORECASE)
    names, power, divided, i = [], "", False, 0
    while i < len(text):
        match = _TOKEN.match(text, i)
        if match is None:
            return None
        word, exponent, slash = match.groups()
        i = match.end()
        if slash or word == "per":
            divided = True
        elif word in _POWERS:
            power = _POWERS[word]
        elif word in ("squared", "cubed") and names and names[-1][0]:
            names[-1] = (names[-1][0], "2" if word == "squared" else "3", names[-1][2])
        elif word and word not in ("of", "the"):
            name = _one(word, trusted)
            if name is None:
                return None
            if exponent and exponent.startswith("-"):
                divided, exponent = True, exponent[1:]
            names.append((name, exponent or power or "1", divided))
            power = ""
    if not names:
        return None
    if not all(name for name, _, _ in names):
        return "" if len(names) == 1 or not any(name for name, _, _ in names) else names[0][0]
    above, below = (
        sorted(name + ("" if exponent == "1" else "^" + exponent) for name, exponent, under in names if under is side)
        for side in (False, True)
    )
    return "/".join(["*".join(above), *below])


@lru_cache(maxsize=8192)
def names_things(words):
    """Whether words behind the number of an answer only say what is counted: words of three letters or more, none of
    which is a number, an operation, a bound or a doubt."""
    return all(read_unit(word) is not None or word == "of" or _names_a_thing(word.lower()) for word in words.split())


def _names_a_thing(word):
    is_word = len(word) > 3 or re.search("[aeiou]", word) and len(word) == 3
    return bool(is_word) and word not in _NO_THING and not _NUMERAL.fullmatch(word) and not _FUNCTION.fullmatch(word)


def is_symbol(text):
    """Whether the text is a unit of one letter, which may as well be a variable."""
    return len(text.strip()) == 1 and text.strip().isalpha()
