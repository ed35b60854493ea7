r"""Find the final answer in a response.

The last mark wins: `\boxed{}`, `#### x`, `<answer>x</answer>`, "The final answer is x". Without one of them the last "Answer: x", "A: x" or
"the answer is x"; else, for some data sources, the last number; else a formula that ends the response or a last sentence
that begins with "Therefore", "Thus", "Hence" or "So". Nothing here is
evaluated, and every search is linear in the length of the response: marks are found from the end by plain string search,
and only a bounded window after a mark is looked at.
"""

import re

MAX_WINDOW = 20_000  # characters looked at after a mark, and from the end for the marking words and the last number
MAX_MARKERS = 16  # how many of the last boxes are tried
MAX_JOINER = 80  # characters between two boxes of one list
MAX_JOINER_WORDS = 5
MAX_SENTENCE = 600  # characters from the end in which a formula or a concluding sentence is looked for

# Data sources whose answers are a bare number at the end when no mark was written.
LAST_NUMBER_SOURCES = ("openai/gsm8k", "gsm8k")

_END = re.compile(
    r"<\|(?:im_end|im_start|endoftext|eot_id|end_of_text|end)\|>|</s>|<end_of_turn>|<eos>|<｜end▁of▁sentence｜>"
)
_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z_])\s*")
_BARE = re.compile(r"[-+]?(?:\.?\w)+")
_WRAP = re.compile(r"\\(?:text|mathrm|textbf)\s*\{|\\[()\[\]]|\\(?:quad|qquad|,|;|!| )|[{}$~*]")
_NOT_JOINED = re.compile(
    r"\b(?:no|not|wait|actually|but|so|then|thus|hence|instead|however|therefore|rather|wrong)\b", re.I
)
_HEADING = re.compile(r"\s*\d{1,2}[.)]\s+(?!I hope)[A-Za-z*]")  # #### 2. Check
_MANNER = re.compile(
    r"(?:given|expressed|written|stated|measured|shown|rounded)\s(?!by\b|as\b)|(?:in|above|below)\b", re.I
)
_DENIED = re.compile(r"(?:\b(?:not|never)|n't)(?:\s+(?:be|equal(?:\s+to)?))?[\s$*\\(\[]*$")
_FINAL = re.compile(
    r"final\s{1,3}answer(?:\s{0,3}(?:\*\*|__|:|is\b|=)){1,4}|^[#*_ \t]{1,9}(?:final\s)?answer[#*_ \t]{0,9}$",
    re.I | re.M,
)
_WORDS = re.compile(
    r"(?:(?<![A-Za-z])answer\s{0,3}(?:\*\*|__)?\s{0,3}(?::|\bis\b\s{0,3}:?)|^[ \t]{0,8}(?-i:A):)\s{0,3}(?:\*\*|__)?",
    re.IGNORECASE | re.MULTILINE,
)
_IS = re.compile(
    r"^.{0,400}?[A-Za-z$)]\s+(?:is|are|equals|be)(?:\s+(?:equal to|therefore|then|thus|given by))?:?\s+(?=\S)", re.S
)
_SENTENCE = re.compile(r"(?<=[\w$)}\]%°])[.!]\s+(?=[A-Z\[(*#])")
_THEREFORE = re.compile(r"(?:therefore|thus|hence|so|in conclusion),?\s", re.IGNORECASE)
_FORMULA = re.compile(r"\$\$(.+?)\$\$|\$((?:[^$\n\\]|\\.)+)\$|\\\(([^\n]+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_NUMBER = re.compile(r"(?<![\w.,])[-+]?\$?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?![\w])|(?<![\w.])[-+]?\.\d+")


def clean_text(text):
    """Return `text` as a string without null bytes and lone surrogates (which break JSON, numpy and pipes)."""
    text = (text if isinstance(text, str) else str(text)).replace("\x00", "")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        text = text.encode("utf-8", "replace").decode("utf-8")
    return text


def _braced(text, start):
    """Return (content, end) of the group that opens at text[start] == "{", or None; escaped braces do not count."""
    depth, i, stop = 0, start, min(len(text), start + MAX_WINDOW)
    while i < stop:
        c = text[i]
        if c == "\\":
            i += 2
            continue
        depth += {"{": 1, "}": -1}.get(c, 0)
        if depth == 0:
            return text[start + 1 : i], i + 1
        i += 1
    return None


def _box_at(text, start):
    """Return (content, end) of the box command at `start`; `\\boxed 5` and `\\boxed5` are accepted too."""
    match = _BOX.match(text, start)
    if match is None:
        return None
    if text[match.end() : match.end() + 1] == "{":
        return _braced(text, match.end())
    bare = _BARE.match(text, match.end(), match.end() + 64)
    return (bare.group(), bare.end()) if bare else None


def joins(between):
    r"""Whether the text between two boxes makes them one list: nothing, a comma, "and" or "or", with at most five more
    words or names ("for part (a) and", `\) and \( y_2 =`) and no end of a sentence."""
    if len(between) > MAX_JOINER or "\n\n" in between:
        return False
    plain = _WRAP.sub(" ", between).strip()
    if re.search(r"[.!?:]", plain) or _NOT_JOINED.search(plain):
        return False
    words = re.split(r"[\s,;&]+", plain)
    joined = not plain or re.search(r"[,;&]|\b(?:and|or)\b", plain)
    return bool(joined) and sum(word not in ("", "and", "or", "=") for word in words) <= MAX_JOINER_WORDS


def last_boxed(text):
    r"""Return (content, position) of the last closed `\boxed{}`, or None; joined neighbours count as one list."""
    found = []  # from the last to the first: (start, end, content)
    end = len(text)
    for _ in range(MAX_MARKERS):
        start = max(text.rfind("\\boxed", 0, end), text.rfind("\\fbox", 0, end))
        if start < 0:
            break
        end = start
        box = _box_at(text, start)
        if box is None or _DENIED.search(text, max(0, start - 40), start):
            continue
        content, stop = box
        if found and (stop > found[-1][0] or not joins(text[stop : found[-1][0]])):
            break
        found.append((start, stop, content))
    if not found:
        return None
    parts = list(dict.fromkeys(content.strip() for _, _, content in reversed(found)))
    inner = last_boxed(parts[-1]) if len(parts) == 1 and "\\boxed" in parts[-1] else None
    return (inner[0] if inner else ", ".join(parts)), found[0][0]


def _unbrace(line):
    while line.endswith("}") and line.count("}") > line.count("{") and not line.endswith("\\}"):
        line = line[:-1].rstrip()
    return line


def _line(text, start):
    """Return the answer in the first non-empty line from `start`: without markdown, closing words and the sentence
    around it ("The volume of $ABC$ is 120.")."""
    window = text[start : start + MAX_WINDOW]
    line = next((part for part in window.split("\n") if part.strip(" *_#:\t")), "")
    if line.strip() in ("$$", "\\[", "\\("):  # the formula stands on lines of its own
        line = " ".join(window.split("\n")[:8])
    hope = line.find("I hope it is correct")
    line = (line[:hope].rstrip(". ") if hope > 0 else line).strip().strip('*_`#"').strip()
    line = _SENTENCE.split(line, maxsplit=1)[0]
    while "$" in line or len(line) > 3:
        match = _IS.match(line)
        if match is None or match.end() >= len(line):
            break
        line = line[match.end() :].strip()
    for opening, closing in (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]")):
        if line.startswith(opening):
            stop = line.find(closing, len(opening))
            rest = line[stop + len(closing) :]
            # "$2, \pi$ and $3$" and "$28$ %" are kept whole; "$18.90" has no closing sign and stays
            if stop > 0 and not re.match(
                r"\s*(?:,|,?\s*(?:and|or)\b)\s*[$\\\d(-]|\s*(?:\\?%|[a-z°]{1,12}\b[.\s]*$)", rest
            ):
                return line[len(opening) : stop].strip()
    line = line.strip().strip('*_`"').rstrip()
    if (
        len(line) <= MAX_SENTENCE and len(re.findall(r"[A-Za-z]{3,}", line)) > 3
    ):  # a sentence: the only number or formula in it
        found = [match.group().strip("$") for match in _FORMULA.finditer(line)] or _NUMBER.findall(line)
        line = found[0] if len(found) == 1 else line
    return _unbrace(line[:-1].rstrip() if line.endswith(".") else line)


def _final(tail):
    """Return (answer, position in the tail) of the last "final answer" that is followed by one, or None."""
    if "answer" not in tail.lower():  # a plain search is much faster than the pattern, and most responses end here
        return None
    matches = list(_FINAL.finditer(tail))
    for match in matches[:-4:-1]:
        line = _line(tail, match.end())
        if (
            line
            and "\\boxed" not in line
            and not _MANNER.match(line)
            and (re.search(r"[\d$\\(]", line) or len(line) == 1)
        ):
            return line, match.start()
    return None


def extract_answer(solution, data_source="", last_number_sources=LAST_NUMBER_SOURCES):
    r"""Return the final answer of a response as text, or None.

    Text before a closing `</think>` and behind a token that ends a turn is not searched.

    Args:
      solution: the response, a string.
      data_source: verl's `data_source` of the row.
      last_number_sources: names for which the last number of the response counts as an answer.
    """
    think = solution.rfind("</think>")
    solution = solution[think + len("</think>") :] if think >= 0 else solution
    ended = _END.search(solution)
    solution = solution[: ended.start()] if ended and solution[: ended.start()].strip() else solution
    offset = max(0, len(solution) - MAX_WINDOW)
    tail = solution[offset:]
    marks = []
    boxed = last_boxed(solution)
    if boxed is not None:
        marks.append((boxed[1], _unbrace(boxed[0].strip())))
    hashes = solution.rfind("####")
    if hashes >= 0:
        line = _line(solution[hashes + 4 : hashes + 4 + MAX_WINDOW], 0)
        # a heading of markdown behind a box is no answer
        heading = _HEADING.match(solution, hashes + 4) or line[:1] not in tuple("+-.0123456789\\$([")
        marks += [(hashes, line)] if line and not (boxed and heading) else []
    tag = tail.rfind("<answer>")
    stop = tail.find("</answer>", tag)
    if 0 <= tag < stop:
        line = _line(tail[tag + len("<answer>") : stop], 0)
        marks += [(offset + tag, line)] if line else []
    final = _final(tail)
    if final is not None:
        marks.append((offset + final[1], final[0]))
    if marks:
        return max(marks)[1]
    ends = [match.end() for match in _WORDS.finditer(tail)]
    line = _line(tail, ends[-1]) if ends else ""
    if line:
        return line
    if data_source in last_number_sources:
        numbers = _NUMBER.findall(tail)
        return numbers[-1] if numbers else None
    formulas = list(_FORMULA.finditer(tail[-MAX_SENTENCE:]))
    if formulas:
        after = tail[-MAX_SENTENCE:][formulas[-1].end() :]
        if len(after) <= 60 and not re.search(r"\d", after):
            return next(group for group in formulas[-1].groups() if group).strip()
    sentences = re.split(r"[.!?]\$*\s+", tail[-MAX_SENTENCE:].replace("I hope it is correct.", "").strip())
    concluding = _THEREFORE.match(sentences[-1])
    line = _line(sentences[-1], concluding.end()) if concluding else ""
    if re.search(r"\d", line) and len(line) <= 60:
        return line
    return None


def is_marked(solution):
    r"""Whether the response marks its final answer by `\boxed{}` or `####` (what a format bonus rewards)."""
    return last_boxed(solution) is not None or re.search(r"####\s*\S", solution) is not None
