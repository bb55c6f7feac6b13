"""Judges JSON text a part at a time, and writes it without blanks: native, so that a large body costs little.

Here belong the grammar of RFC 8259 and what this API adds to it: no key twice in an object, no number that overflows,
so many levels and no more. Not here: UTF-8 (the caller has looked), and turns of the loop
(``jsontext``). No value is made of what is read; a caller makes those that it wants from a piece of the result.
"""

import math
from json.decoder import scanstring

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

cdef enum:
    LEVELS = 128
    DIGITS_MAXIMUM = 4300  # as many as Python makes a number of
    SAFE_LENGTH = 200  # a number of so many characters, and two digits of exponent, is finite
    KEYS_MAXIMUM = 10_000  # of one object: a set of very many holds everybody up whenever it grows

# What looking costs, in bytes that are only passed over.
cdef enum:
    CONTAINER_COST = 16
    KEY_COST = 24
    ESCAPED_KEY_COST = 100
    FLOAT_COST = 40

cdef enum Expected:
    VALUE
    VALUE_OR_END
    KEY
    KEY_OR_END
    COLON
    COMMA_OR_END
    NOTHING


@cython.final
cdef class JsonScan:
    cdef bytes text
    cdef const unsigned char *at_text
    cdef unsigned char *output
    cdef Py_ssize_t size, place, written
    cdef int depth, depth_maximum
    cdef Expected expected
    cdef char kinds[LEVELS]
    cdef list keys  # of each object that is open: None, its one key, or the set of them
    cdef bytes member  # the key of the outermost object whose value is being read
    cdef Py_ssize_t member_at, item_at
    cdef Py_ssize_t items_maximum
    cdef readonly list members
    cdef readonly list items
    cdef readonly bint has_lone_surrogates
    cdef bint member_is_no_text
    cdef readonly Py_ssize_t item_count, value_count

    def __cinit__(self, bytes text not None, int depth_maximum, Py_ssize_t items_maximum=0):
        if not 0 < depth_maximum <= LEVELS:
            raise ValueError(f"depth_maximum is 1 to {LEVELS}")
        self.text = text
        self.at_text = <const unsigned char *> PyBytes_AS_STRING(text)
        self.size = len(text)
        self.output = <unsigned char *> malloc(self.size + 1)
        if self.output == NULL:
            raise MemoryError
        self.depth_maximum = depth_maximum
        self.items_maximum = items_maximum
        self.expected = VALUE
        self.keys = []
        self.members = []
        self.items = []

    def __dealloc__(self):
        free(self.output)

    @property
    def is_object(self):
        return self.written > 0 and self.output[0] == b"{"

    @property
    def compact(self):
        return PyBytes_FromStringAndSize(<char *> self.output, self.written)

    def advance(self, Py_ssize_t cost_maximum):
        cdef Py_ssize_t cost = 0, began
        while cost < cost_maximum:
            began = self.place
            self.pass_blanks()
            if self.place == self.size:
                if self.expected != NOTHING:
                    raise self.unexpected()
                return True
            cost += self.step() + (self.place - began)
        return False

    def piece(self, Py_ssize_t start, Py_ssize_t end):
        if not 0 <= start <= end <= self.written:
            raise ValueError("no piece of what was written")
        return PyBytes_FromStringAndSize(<char *> self.output + start, end - start)

    cdef Py_ssize_t step(self) except -1:
        """Take one token; returns what it cost beside its length."""
        cdef unsigned char letter = self.at_text[self.place]
        if letter == b'"':
            if self.expected == KEY or self.expected == KEY_OR_END:
                return self.take_key()
            self.begin_value()
            self.take_string()
            return self.end_value()
        if letter == b"{" or letter == b"[":
            return self.open_container(letter)
        if letter == b"}" or letter == b"]":
            return self.close_container(letter)
        if letter == b":" and self.expected == COLON:
            self.expected = VALUE
            self.copy(1)
            self.member_at = self.written if self.depth == 1 else self.member_at
            return 0
        if letter == b"," and self.expected == COMMA_OR_END:
            self.expected = KEY if self.kinds[self.depth - 1] == b"{" else VALUE
            self.copy(1)
            return 0
        return self.take_plain(letter)

    cdef Py_ssize_t take_plain(self, unsigned char letter) except -1:
        cdef Py_ssize_t cost = 0
        self.begin_value()
        if letter == b"-" or b"0" <= letter <= b"9":
            cost = self.take_number()
        elif letter == b"t":
            self.take_word(b"true")
        elif letter == b"f":
            self.take_word(b"false")
        elif letter == b"n":
            self.take_word(b"null")
        else:
            self.refuse_constant()
        self.end_value()
        return cost

    # ------------------------------------------------------------ structure

    cdef int begin_value(self) except -1:
        if self.expected != VALUE and self.expected != VALUE_OR_END:
            raise self.unexpected()
        self.value_count += 1
        if self.depth == 2 and self.kinds[1] == b"[":
            self.item_at = self.written
        return 0

    cdef int end_value(self) except -1:
        self.expected = COMMA_OR_END if self.depth else NOTHING
        if self.depth == 1 and self.kinds[0] == b"{":
            self.members.append((self.member, self.member_at, self.written, self.member_is_no_text))
        elif self.depth == 2 and self.kinds[1] == b"[":
            self.item_count += 1
            if self.item_count <= self.items_maximum:
                self.items.append((self.item_at, self.written))
        return 0

    cdef Py_ssize_t open_container(self, unsigned char letter) except -1:
        self.begin_value()
        if self.depth == self.depth_maximum:
            raise ValueError("nested too deeply")
        self.kinds[self.depth] = letter
        self.depth += 1
        self.copy(1)
        if letter == b"{":
            self.keys.append(None)
            self.expected = KEY_OR_END
        else:
            self.expected = VALUE_OR_END
        return CONTAINER_COST

    cdef Py_ssize_t close_container(self, unsigned char letter) except -1:
        cdef char kind = self.kinds[self.depth - 1] if self.depth else 0
        if letter == b"}":
            if kind != b"{" or (self.expected != COMMA_OR_END and self.expected != KEY_OR_END):
                raise self.unexpected()
            self.keys.pop()
        elif kind != b"[" or (self.expected != COMMA_OR_END and self.expected != VALUE_OR_END):
            raise self.unexpected()
        self.depth -= 1
        self.copy(1)
        return self.end_value()

    # ------------------------------------------------------------ tokens

    cdef Py_ssize_t take_key(self) except -1:
        cdef Py_ssize_t began = self.place
        cdef bint escaped = self.take_string()
        cdef bytes key
        cdef object before = self.keys[len(self.keys) - 1]
        if escaped:
            key = scanstring(self.text[began + 1 : self.place].decode(), 0)[0].encode("utf-8", "surrogatepass")
        else:
            key = self.text[began + 1 : self.place - 1]
        if before is None:
            self.keys[len(self.keys) - 1] = key
        elif isinstance(before, bytes):
            if before == key:
                raise self.twice(key)
            self.keys[len(self.keys) - 1] = {before, key}
        elif key in <set> before:
            raise self.twice(key)
        elif len(<set> before) == KEYS_MAXIMUM:
            raise ValueError(f"an object has more than {KEYS_MAXIMUM} keys")
        else:
            (<set> before).add(key)
        if self.depth == 1:
            self.member = key
            self.member_is_no_text = False
        self.expected = COLON
        return ESCAPED_KEY_COST if escaped else KEY_COST

    cdef bint take_string(self) except -1:
        """Take a string with its quotes; tells whether something in it is escaped."""
        cdef Py_ssize_t place = self.place + 1
        cdef unsigned char letter
        cdef bint escaped = False
        while place < self.size:
            letter = self.at_text[place]
            if letter == b'"':
                self.copy(place + 1 - self.place)
                return escaped
            if letter < 0x20:
                self.place = place
                raise self.unexpected("a character that is not escaped has to be one above U+001F")
            if letter == b"\\":
                escaped = True
                place = self.after_escape(place)
            else:
                place += 1
        raise self.unexpected("a string without an end")

    cdef Py_ssize_t after_escape(self, Py_ssize_t place) except -1:
        cdef int code, low
        cdef unsigned char letter = self.at_text[place + 1] if place + 1 < self.size else 0
        if letter != b"u":
            if letter not in b'"\\/bfnrt':
                self.place = place
                raise self.unexpected("no such escape")
            return place + 2
        code = self.hexadecimal(place)
        if 0xD800 <= code < 0xE000:
            low = -1
            if code < 0xDC00 and place + 7 < self.size and self.at_text[place + 6] == b"\\" \
                    and self.at_text[place + 7] == b"u":
                low = self.hexadecimal(place + 6)
            if 0xDC00 <= low < 0xE000:
                return place + 12
            self.has_lone_surrogates = self.member_is_no_text = True
        return place + 6

    cdef int hexadecimal(self, Py_ssize_t place) except -1:
        """Give the number of an escape that begins at a place."""
        cdef int code = 0, digit
        cdef Py_ssize_t one
        if place + 6 > self.size:
            self.place = place
            raise self.unexpected("no such escape")
        for one in range(place + 2, place + 6):
            digit = self.at_text[one]
            if 0x30 <= digit <= 0x39:
                digit -= 0x30
            elif 0x61 <= (digit | 0x20) <= 0x66:
                digit = (digit | 0x20) - 0x61 + 10
            else:
                self.place = place
                raise self.unexpected("no such escape")
            code = code * 16 + digit
        return code

    cdef Py_ssize_t digits_from(self, Py_ssize_t place) except -1:
        """Give the place behind digits, of which there has to be one."""
        cdef Py_ssize_t began = place
        while place < self.size and b"0" <= self.at_text[place] <= b"9":
            place += 1
        if place == began:
            self.place = place
            raise self.unexpected()
        return place

    cdef Py_ssize_t take_number(self) except -1:
        cdef Py_ssize_t began = self.place, place = self.place, power = 0
        cdef bint whole = True
        if self.at_text[place] == b"-":
            place += 1
        if place < self.size and self.at_text[place] == b"0":
            place += 1
        else:
            place = self.digits_from(place)
        if place < self.size and self.at_text[place] == b".":
            whole = False
            place = self.digits_from(place + 1)
        if place < self.size and (self.at_text[place] == b"e" or self.at_text[place] == b"E"):
            whole = False
            place += 1
            if place < self.size and (self.at_text[place] == b"+" or self.at_text[place] == b"-"):
                place += 1
            power = place
            place = self.digits_from(place)
            power = place - power
        if place - began > DIGITS_MAXIMUM:
            raise self.too_large(began, place)
        self.copy(place - began)
        if whole or (power <= 2 and place - began < SAFE_LENGTH):
            return 0
        if not math.isfinite(float(self.text[began:place])):
            raise self.too_large(began, place)
        return FLOAT_COST

    cdef int take_word(self, bytes word) except -1:
        if self.text[self.place : self.place + len(word)] != word:
            raise self.unexpected()
        self.copy(len(word))
        return 0

    cdef int refuse_constant(self) except -1:
        for name in (b"NaN", b"Infinity"):
            if self.text[self.place : self.place + len(name)] == name:
                raise ValueError(f"{name.decode()} is not JSON")
        raise self.unexpected()

    cdef void pass_blanks(self) noexcept:
        cdef unsigned char letter
        while self.place < self.size:
            letter = self.at_text[self.place]
            if letter != b" " and letter != b"\n" and letter != b"\t" and letter != b"\r":
                return
            self.place += 1

    cdef void copy(self, Py_ssize_t length) noexcept:
        memcpy(self.output + self.written, self.at_text + self.place, length)
        self.written += length
        self.place += length

    # ------------------------------------------------------------ refusals

    cdef object unexpected(self, str what=None):
        if what is None:
            what = _WANTED[self.expected] + (" is missing" if self.place >= self.size else " is wanted")
        before = self.text[: self.place]
        line = before.count(b"\n") + 1
        column = self.place - before.rfind(b"\n")
        return ValueError(f"{what}: line {line}, byte {column}")

    cdef object twice(self, bytes key):
        return ValueError(f"the key {key.decode('utf-8', 'replace')[:100]!r} is there twice")

    cdef object too_large(self, Py_ssize_t began, Py_ssize_t end):
        return ValueError(f"the number {self.text[began : min(end, began + 100)].decode()} is too large")


_WANTED = {
    VALUE: "a value",
    VALUE_OR_END: "a value or ]",
    KEY: "a name in double quotes",
    KEY_OR_END: "a name in double quotes or }",
    COLON: "a colon",
    COMMA_OR_END: "a comma or the end",
    NOTHING: "the end",
}
