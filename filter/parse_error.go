package filter

import (
	"fmt"
	"strconv"
	"strings"
)

// bareID explains an id without a qualifier.
func (p *parser) bareID(t token) *Error {
	problem := strconv.Quote(t.text) + " stands without saying what it is"
	switch t.kind {
	case tokNumber:
		return p.fail(t, problem, "",
			fmt.Sprintf("port %[1]s, vlan %[1]s, ip proto %[1]s or len >= %[1]s", t.text))
	case tokQuad:
		return p.fail(t, problem, "", "host "+t.text+" or net "+t.text)
	case tokIPv6:
		return p.fail(t, problem, "", "host "+t.text)
	case tokMAC:
		return p.fail(t, problem, "", "ether host "+t.text)
	}
	if w := strings.ToLower(t.text); keywords[w] {
		return p.fail(t, problem, "",
			strconv.Quote(w)+" if that is meant, or host "+t.text+" for a host's name")
	}
	if isRelation(p.ahead(1)) || strings.Contains(t.text, ".") &&
		keywords[strings.SplitN(t.text, ".", 2)[0]] {
		return p.fail(t, strconv.Quote(t.text)+" is not a field of this language", "",
			`a field by its offset, as in "ip[8] < 5", or a primitive such as "tcp port 80"`)
	}
	if w := nearest(t.text); w != "" {
		return p.fail(t, problem, "",
			strconv.Quote(w)+" if that is meant, or host "+t.text+" for a host's name")
	}
	return p.fail(t, problem, "", fmt.Sprintf("host %[1]s, port %[1]s or net %[1]s", t.text))
}

// nearest returns the keyword that differs from word in one letter, or "".
func nearest(word string) string {
	if len(word) < 3 {
		return ""
	}
	best := ""
	for k := range keywords {
		if len(k) >= 3 && oneEdit(word, k) && (best == "" || k < best) {
			best = k
		}
	}
	return best
}

func oneEdit(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	if len(b)-len(a) > 1 {
		return false
	}
	i := 0
	for i < len(a) && a[i] == b[i] {
		i++
	}
	if len(a) == len(b) {
		return i < len(a) && (a[i+1:] == b[i+1:] ||
			i+1 < len(a) && a[i] == b[i+1] && a[i+1] == b[i] && a[i+2:] == b[i+2:])
	}
	return a[i:] == b[i+1:]
}

// trailing explains a token after a complete condition.
func (p *parser) trailing() *Error {
	t := p.peek()
	before := p.toks[max(p.at-1, 0)]
	switch {
	case t.is(")"):
		return p.fail(t, "the closing bracket has no opening one", "", "")
	case t.is("&"), t.is("|"):
		return p.fail(t, strconv.Quote(t.text)+" works on numbers, not on conditions", "",
			strconv.Quote(t.text+t.text))
	case t.is("/") && before.kind == tokNumber:
		return p.fail(t, "a net with a length needs a dotted number", "", "net "+before.text+".0.0.0/…")
	case t.is("mask") && before.kind == tokNumber:
		return p.fail(t, "a net with a mask needs a dotted number", "",
			"net "+before.text+".0.0.0 mask …")
	case isRelation(t), isOperator(t):
		return p.fail(t, strconv.Quote(t.text)+" needs a number on its left", "",
			"a field such as ip[8] or len before "+strconv.Quote(t.text))
	}
	return p.fail(t, found(t)+" where a condition has ended", `"and", "or" or the end`,
		"and "+t.text+" … if both must hold, or "+t.text+" … if one is enough")
}
