package filter

import (
	"net/netip"
	"strconv"
	"strings"
)

// tokenKind is the class of a token.
type tokenKind uint8

const (
	tokEnd     tokenKind = iota
	tokNumber            // 80, 0x50, 0120
	tokQuad              // 10.1, 10.1.2 or 10.1.2.3
	tokIPv6              // fe80::1
	tokMAC               // 00:11:22:33:44:55 and its other forms
	tokName              // a name that is not a keyword, or any word after a backslash
	tokKeyword           // a word of the language
	tokSymbol            // an operator or a bracket
)

// token is one word or symbol of an expression.
type token struct {
	kind     tokenKind
	text     string // as written, without the backslash
	num      uint32 // value of a number
	pos, end int
}

func (t token) is(text string) bool {
	return t.text == text && (t.kind == tokKeyword || t.kind == tokSymbol)
}

// symbols are the operators, longest first.
var symbols = []string{
	"&&", "||", "<<", ">>", "<=", ">=", "==", "!=",
	"!", "(", ")", "[", "]", "+", "-", "*", "/", "%", "&", "|", "^", "<", ">", "=", ":",
}

// lexer cuts an expression into tokens.
type lexer struct {
	src string
	pos int
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }
func isDigit(c byte) bool { return c >= '0' && c <= '9' }
func isHex(c byte) bool {
	return isDigit(c) || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}
func isAlnum(c byte) bool {
	return isDigit(c) || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// run returns the number of bytes at the start of s that satisfy ok.
func run(s string, ok func(byte) bool) int {
	n := 0
	for n < len(s) && ok(s[n]) {
		n++
	}
	return n
}

// next returns the next token.
func (l *lexer) next() (token, error) {
	l.pos += run(l.src[l.pos:], isSpace)
	start := l.pos
	s := l.src[start:]
	if s == "" {
		return token{pos: start, end: start}, nil
	}
	var t token
	switch c := s[0]; {
	case c == '\\':
		n := 1 + run(s[1:], func(c byte) bool { return !isSpace(c) && strings.IndexByte("!()", c) < 0 })
		if n == 1 {
			return t, &Error{Expression: l.src, Pos: start, End: start + 1,
				Problem: "a backslash has no word after it", Hint: `a protocol's name as in "ip proto \tcp"`}
		}
		t = token{kind: tokName, text: s[1:n], end: start + n}
	case isAlnum(c), c == ':' && strings.HasPrefix(s, "::"):
		var err error
		if t, err = l.word(start); err != nil {
			return t, err
		}
	default:
		for _, sym := range symbols {
			if strings.HasPrefix(s, sym) {
				t = token{kind: tokSymbol, text: sym, end: start + len(sym)}
				break
			}
		}
	}
	if t.text == "" {
		e := &Error{Expression: l.src, Pos: start, End: start + 1,
			Problem: "the character " + strconv.QuoteRune([]rune(s)[0]) + " means nothing in an expression"}
		e.Hint = map[byte]string{
			',': `"or" between alternatives, as in "port 80 or 443"`,
			';': `one expression, joined with "and" or "or"`,
			'"': "the expression without quotation marks", '\'': "the expression without quotation marks",
			'#': `the expression without comments, or put it into a file for "-F"`,
			'~': `x ^ 0xffffffff for the complement of x`,
			'$': "the value itself: variables of the shell do not reach the expression",
		}[s[0]]
		return t, e
	}
	t.pos = start
	l.pos = t.end
	return t, nil
}

// word returns the number, address, name or keyword that begins at start. The longest form wins.
func (l *lexer) word(start int) (token, error) {
	s := l.src[start:]
	if n := macLen(s); n > 0 {
		if n < len(s) && (isAlnum(s[n]) || s[n] == ':' && n+1 < len(s) && isHex(s[n+1])) {
			n += run(s[n:], func(c byte) bool { return isAlnum(c) || c == ':' })
			if a, err := netip.ParseAddr(s[:n]); err != nil || !a.Is6() {
				return token{}, &Error{Expression: l.src, Pos: start, End: start + n,
					Problem: strconv.Quote(s[:n]) + " is neither an Ethernet address nor an IPv6 address",
					Hint:    "six bytes, as in 00:11:22:33:44:55, or an address such as 2001:db8::1"}
			}
		} else if id := nameLen(s); id <= n {
			return token{kind: tokMAC, text: s[:n], end: start + n}, nil
		}
	}
	six := run(s, func(c byte) bool { return isHex(c) || c == ':' || c == '.' })
	for six > 0 && (s[six-1] == '.' || s[six-1] == ':' && !strings.HasSuffix(s[:six], "::")) {
		six--
	}
	if strings.Count(s[:six], ":") >= 2 && six >= nameLen(s) {
		if a, err := netip.ParseAddr(s[:six]); err == nil && a.Is6() {
			return token{kind: tokIPv6, text: s[:six], end: start + six}, nil
		}
		if strings.Contains(s[:six], "::") {
			return token{}, &Error{Expression: l.src, Pos: start, End: start + six,
				Problem: strconv.Quote(s[:six]) + " is not an IPv6 address",
				Hint:    "an address such as 2001:db8::1"}
		}
	}
	n := nameLen(s)
	text := s[:n]
	t := token{text: text, end: start + n}
	num := run(text, isAlnum)
	switch {
	case num == n && isNumber(text):
		v, err := strconv.ParseUint(text, 0, 32)
		if err != nil || strings.HasPrefix(text, "0o") {
			e := &Error{Expression: l.src, Pos: start, End: t.end,
				Problem: "the number " + text + " does not fit into 32 bits",
				Hint:    "a number from 0 to 4294967295"}
			if strings.ContainsAny(text, "89") && text[0] == '0' {
				e.Problem = "the number " + text +
					" begins with 0, so it is octal, and 8 and 9 are not octal digits"
				e.Hint = strings.TrimLeft(text, "0")
			}
			return t, e
		}
		t.kind, t.num = tokNumber, uint32(v)
	case isQuad(text):
		t.kind = tokQuad
	case keywords[text]:
		t.kind = tokKeyword
	default:
		t.kind = tokName
	}
	return t, nil
}

// nameLen returns the length of the name at the start of s. The name may hold dots, dashes and
// underscores, but does not end in a dash or an underscore.
func nameLen(s string) int {
	n := run(s, func(c byte) bool { return isAlnum(c) || c == '.' || c == '-' || c == '_' })
	for n > 0 && (s[n-1] == '-' || s[n-1] == '_') {
		n--
	}
	return n
}

// isNumber reports whether s is written as a number. The number may be too large.
func isNumber(s string) bool {
	if h, ok := strings.CutPrefix(strings.ToLower(s), "0x"); ok {
		return h != "" && run(h, isHex) == len(h)
	}
	return run(s, isDigit) == len(s)
}

// isQuad reports whether s is two to four numbers with dots between them.
func isQuad(s string) bool {
	parts := strings.Count(s, ".") + 1
	if parts < 2 || parts > 4 || s[len(s)-1] == '.' || strings.Contains(s, "..") {
		return false
	}
	return run(s, func(c byte) bool { return isDigit(c) || c == '.' }) == len(s)
}

// macLen returns the length of the Ethernet address at the start of s, or 0.
func macLen(s string) int {
	if n := run(s, isHex); n == 12 {
		return n
	}
	for _, form := range []struct {
		sep      byte
		groups   int
		min, max int
	}{{':', 6, 1, 2}, {'-', 6, 1, 2}, {'.', 6, 1, 2}, {'.', 3, 4, 4}} {
		if n := groupsLen(s, form.sep, form.groups, form.min, form.max); n > 0 {
			return n
		}
	}
	return 0
}

func groupsLen(s string, sep byte, groups, least, most int) int {
	at := 0
	for g := range groups {
		if g > 0 {
			if at >= len(s) || s[at] != sep {
				return 0
			}
			at++
		}
		n := run(s[at:], isHex)
		if n < least || n > most {
			return 0
		}
		at += n
	}
	return at
}

// parseMAC returns the six bytes of an Ethernet address that macLen accepted.
func parseMAC(s string) (mac [6]byte) {
	groups := strings.FieldsFunc(s, func(r rune) bool { return r == ':' || r == '-' || r == '.' })
	hex := strings.Join(groups, "")
	if len(groups) == 6 {
		for i, g := range groups {
			v, _ := strconv.ParseUint(g, 16, 8)
			mac[i] = byte(v)
		}
		return mac
	}
	v, _ := strconv.ParseUint(hex, 16, 48)
	for i := range mac {
		mac[i] = byte(v >> (40 - 8*i))
	}
	return mac
}

// StripComments replaces every comment by spaces. A comment goes from a # to the end of its line.
// So the positions in errors remain right. Use it for expressions that are kept in files.
func StripComments(text string) string {
	b := []byte(text)
	comment := false
	for i, c := range b {
		comment = c != '\n' && (comment || c == '#')
		if comment {
			b[i] = ' '
		}
	}
	return string(b)
}
