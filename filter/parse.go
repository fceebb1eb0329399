package filter

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// maxDepth bounds the depth to which brackets, negations and indices nest.
const maxDepth = 1000

// Parse reads an expression in the language of pcap-filter(7). It looks up no names. Any goroutine
// may call Parse.
//
// Errors:
//   - [*Error]: the expression is not well-formed.
func Parse(expression string) (*Expr, error) {
	if len(expression) > maximumLength {
		return nil, &Error{Problem: fmt.Sprintf("the expression has more than %d bytes", maximumLength)}
	}
	p := parser{src: expression}
	l := lexer{src: expression}
	p.toks = make([]token, 0, len(expression)/4+4)
	for {
		t, err := l.next()
		if err != nil {
			return nil, err
		}
		p.toks = append(p.toks, t)
		if t.kind == tokEnd {
			break
		}
	}
	p.closing = pairBrackets(p.toks)
	e := &Expr{source: expression}
	if len(p.toks) == 1 {
		return e, nil
	}
	n, _, err := p.expr()
	if err == nil && p.peek().kind != tokEnd {
		err = p.trailing()
	}
	if err != nil {
		return nil, err
	}
	e.Root = n
	return e, nil
}

// parser is a recursive-descent parser over the tokens. The grammar:
//
//	expr  = term { ("and" | "or") (term | ids) }
//	term  = "not" term | "(" expr ")" | arith relation arith | match | word
//	match = [protocol] [direction] [type] ids
//	ids   = "not" ids | "(" ids { ("and" | "or") ids } ")" | id
//
// "and" and "or" bind equally, from the left. A bare ids takes the qualifiers of the term before.
type parser struct {
	src     string
	toks    []token
	closing map[int]int // of each opening bracket, the closing one
	at      int
	depth   int
}

// qualifiers are the words that an id inherits. typ is empty if the term before had none.
type qualifiers struct{ proto, dir, typ string }

func (p *parser) peek() token       { return p.toks[p.at] }
func (p *parser) ahead(n int) token { return p.toks[min(p.at+n, len(p.toks)-1)] }

func (p *parser) take() token {
	t := p.toks[p.at]
	if t.kind != tokEnd {
		p.at++
	}
	return t
}

func (p *parser) accept(texts ...string) bool {
	if slices.ContainsFunc(texts, p.peek().is) {
		p.at++
		return true
	}
	return false
}

func (p *parser) fail(t token, problem, expected, hint string) *Error {
	return &Error{Expression: p.src, Pos: t.pos, End: t.end, Problem: problem, Expected: expected,
		Hint: hint}
}

// found names a token in a message.
func found(t token) string {
	if t.kind == tokEnd {
		return "the expression ends"
	}
	return strconv.Quote(t.text) + " stands"
}

func (p *parser) down() error {
	p.depth++
	if p.depth > maxDepth {
		return p.fail(p.peek(), fmt.Sprintf("more than %d brackets or negations are nested", maxDepth),
			"", "")
	}
	return nil
}

func isAnd(t token) bool { return t.is("and") || t.is("&&") }
func isOr(t token) bool  { return t.is("or") || t.is("||") }
func isNot(t token) bool { return t.is("not") || t.is("!") }

func isRelation(t token) bool {
	switch t.text {
	case "=", "==", "!=", "<", ">", "<=", ">=":
		return t.kind == tokSymbol
	}
	return false
}

func isOperator(t token) bool {
	switch t.text {
	case "+", "-", "*", "/", "%", "&", "|", "^", "<<", ">>":
		return t.kind == tokSymbol
	}
	return false
}

func (p *parser) expr() (Node, qualifiers, error) {
	x, q, err := p.term()
	if err != nil {
		return nil, q, err
	}
	for {
		op := p.peek()
		if !isAnd(op) && !isOr(op) {
			return x, q, nil
		}
		p.at++
		var y Node
		if p.idsNext() {
			y, err = p.ids(q)
		} else {
			y, q, err = p.term()
		}
		if err != nil {
			return nil, q, err
		}
		if isAnd(op) {
			x = &And{x, y}
		} else {
			x = &Or{x, y}
		}
	}
}

// idsNext reports whether bare ids follow rather than a term. Past any brackets and negations there
// is then an address or a name, or a number that no arithmetic continues.
func (p *parser) idsNext() bool {
	i := p.at
	for p.toks[i].is("(") || isNot(p.toks[i]) {
		i++
	}
	switch p.toks[i].kind {
	case tokQuad, tokIPv6, tokMAC, tokName:
		return true
	case tokNumber:
		for i++; p.toks[i].is(")"); i++ {
		}
		return !isRelation(p.toks[i]) && !isOperator(p.toks[i])
	}
	return false
}

func (p *parser) term() (Node, qualifiers, error) {
	if err := p.down(); err != nil {
		return nil, qualifiers{}, err
	}
	defer func() { p.depth-- }()
	t := p.peek()
	switch {
	case isNot(t):
		p.at++
		x, q, err := p.term()
		if err != nil {
			return nil, q, err
		}
		return &Not{x, span{t.pos, x.where().end}}, q, nil
	case t.is("("):
		if p.arithmeticBracket() {
			n, err := p.compare()
			return n, qualifiers{}, err
		}
		p.at++
		n, _, err := p.expr()
		if err == nil && !p.accept(")") {
			if end := p.peek(); end.kind == tokEnd {
				err = p.fail(t, `the bracket is not closed`, `")"`, "")
			} else {
				err = p.trailing()
			}
		}
		return n, qualifiers{}, err
	case t.kind == tokNumber, t.is("-"), t.is("len"), t.is("length"):
		if t.kind == tokNumber && !isRelation(p.ahead(1)) && !isOperator(p.ahead(1)) {
			return nil, qualifiers{}, p.bareID(t)
		}
		n, err := p.compare()
		return n, qualifiers{}, err
	case t.kind == tokKeyword:
		if _, ok := namedNumbers[t.text]; ok || p.ahead(1).is("[") {
			n, err := p.compare()
			return n, qualifiers{}, err
		}
		return p.primitive()
	case t.kind == tokEnd:
		return nil, qualifiers{}, p.fail(t, "the expression ends too early",
			"a condition such as tcp or port 80", "")
	case t.kind == tokSymbol:
		e := p.fail(t, strconv.Quote(t.text)+" cannot begin a condition",
			"a condition such as tcp or port 80", "")
		return nil, qualifiers{}, e
	}
	return nil, qualifiers{}, p.bareID(t)
}

// arithmeticBracket reports whether the bracket at p holds a number: arithmetic goes on behind it.
func (p *parser) arithmeticBracket() bool {
	end := p.closing[p.at]
	return end > 0 && (isRelation(p.toks[end+1]) || isOperator(p.toks[end+1]))
}

// pairBrackets returns, for each token that opens a bracket, the token that closes it.
func pairBrackets(toks []token) map[int]int {
	var open []int
	var closing map[int]int
	for i, t := range toks {
		switch {
		case t.is("("):
			open = append(open, i)
		case t.is(")") && len(open) > 0:
			if closing == nil {
				closing = map[int]int{}
			}
			closing[open[len(open)-1]] = i
			open = open[:len(open)-1]
		}
	}
	return closing
}

func (p *parser) primitive() (Node, qualifiers, error) {
	t := p.take()
	start := t
	var q qualifiers
	if proto, ok := protocols[t.text]; ok {
		next := p.peek()
		if !(next.is("proto") || next.is("protochain") || next.is("gateway") || next.is("broadcast") ||
			next.is("multicast") || isDirection(next) || isType(next)) {
			if proto == "ether" || proto == "radio" {
				return nil, q, p.fail(next, strconv.Quote(t.text)+" alone is no condition",
					`"host", "src", "dst", "proto", "broadcast", "multicast" or "["`,
					t.text+" host 00:11:22:33:44:55")
			}
			if p.idsNext() && !next.is("(") && !isNot(next) {
				return nil, q, p.fail(next,
					fmt.Sprintf("%q and %q do not fit together without a word between them",
						t.text, next.text), `"host", "net", "port", "src" or "dst"`, t.text+" host "+next.text)
			}
			return &Word{Name: proto, span: span{start.pos, t.end}}, q, nil
		}
		q.proto = proto
		t = p.take()
	}
	switch {
	case t.is("broadcast"), t.is("multicast"):
		if q.proto == "ether" {
			q.proto = ""
		}
		return &Word{Proto: q.proto, Name: t.text, span: span{start.pos, t.end}}, qualifiers{}, nil
	case isDirection(t), isType(t), t.is("proto"), t.is("protochain"), t.is("gateway"):
		if isDirection(t) {
			q.dir = direction(t.text)
			if and, or := isAnd(p.peek()), isOr(p.peek()); (and || or) && (t.text == "src" ||
				t.text == "dst") &&
				(p.ahead(1).is("src") || p.ahead(1).is("dst")) && p.ahead(1).text != t.text {
				p.at += 2
				q.dir = ""
				if and {
					q.dir = "src and dst"
				}
			}
			t = p.peek()
		} else {
			p.at--
		}
		if err := p.typeWord(&q); err != nil {
			return nil, q, err
		}
		n, err := p.ids(q)
		return n, q, err
	}
	if q.proto != "" {
		return nil, q, p.fail(t, found(t)+" after "+strconv.Quote(start.text),
			"a direction, a type or the end", "")
	}
	n, err := p.word(t)
	return n, q, err
}

// typeWord reads the type. The default is host.
func (p *parser) typeWord(q *qualifiers) error {
	t := p.peek()
	switch {
	case isType(t):
		q.typ = t.text
	case t.is("proto"), t.is("protochain"), t.is("gateway"):
		if q.dir != "" || p.at > 0 && isDirection(p.toks[p.at-1]) {
			return p.fail(t, fmt.Sprintf("%q has no direction", t.text), "", "the same without src or dst")
		}
		q.typ = t.text
	default:
		q.typ = "host"
		return nil
	}
	p.at++
	return nil
}

func isType(t token) bool {
	return t.is("host") || t.is("net") || t.is("port") || t.is("portrange")
}

func isDirection(t token) bool {
	return t.kind == tokKeyword && direction(t.text) != ""
}

// direction returns the usual spelling of a direction.
func direction(s string) string {
	switch s {
	case "src", "dst", "ra", "ta", "addr1", "addr2", "addr3", "addr4":
		return s
	case "address1", "address2", "address3", "address4":
		return "addr" + s[len(s)-1:]
	}
	return ""
}

// protocols maps the words that can qualify to their usual spelling.
var protocols = func() map[string]string {
	m := map[string]string{"es-is": "esis", "is-is": "isis"}
	for _, w := range strings.Fields("ether link ppp slip fddi tr wlan") {
		m[w] = "ether"
	}
	for _, w := range strings.Fields("ip ip6 arp rarp tcp udp sctp icmp icmp6 igmp igrp pim vrrp " +
		"carp ah esp " +
		"atalk aarp decnet lat sca moprc mopdl iso esis isis clnp stp ipx netbeui radio " +
		"l1 l2 iih lsp snp csnp psnp") {
		m[w] = w
	}
	return m
}()

// ids reads the values behind qualifiers.
func (p *parser) ids(q qualifiers) (Node, error) {
	if err := p.down(); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	t := p.peek()
	if q.typ == "" {
		for i := p.at; ; i++ {
			if !isNot(p.toks[i]) && !p.toks[i].is("(") {
				return nil, p.bareID(p.toks[i])
			}
		}
	}
	switch {
	case isNot(t):
		p.at++
		x, err := p.ids(q)
		if err != nil {
			return nil, err
		}
		return &Not{x, span{t.pos, x.where().end}}, nil
	case t.is("("):
		p.at++
		x, err := p.ids(q)
		for err == nil && (isAnd(p.peek()) || isOr(p.peek())) {
			op := p.take()
			var y Node
			if y, err = p.ids(q); err != nil {
				break
			}
			if isAnd(op) {
				x = &And{x, y}
			} else {
				x = &Or{x, y}
			}
		}
		if err == nil && !p.accept(")") {
			err = p.fail(p.peek(), found(p.peek())+" in a list of values", `"or", "and" or ")"`, "")
		}
		return x, err
	}
	p.at++
	id := ID{Kind: t.kind, Text: t.text, Number: t.num, Bits: -1}
	end := t.end
	switch t.kind {
	case tokNumber, tokName, tokMAC:
	case tokQuad, tokIPv6:
		if p.accept("/") {
			n := p.take()
			if n.kind != tokNumber {
				return nil, p.fail(n, found(n)+` after "/"`, "the number of bits of the net", t.text+"/24")
			}
			id.Bits, end = int(min(n.num, 1<<16)), n.end
		} else if t.kind == tokQuad && p.accept("mask") {
			n := p.take()
			if n.kind != tokQuad {
				return nil, p.fail(n, found(n)+` after "mask"`, "a mask such as 255.255.255.0", "")
			}
			id.Mask, end = n.text, n.end
		}
	default:
		want := map[string]string{"port": "a port's number or name",
			"portrange": "two ports, as in 6000-6008",
			"host":      "an address or a host's name", "net": "a net, as in 10.0.0.0/8",
			"proto": "a protocol's number or name", "protochain": "a protocol's number or name",
			"gateway": "a host's name"}[q.typ]
		if q.proto == "ether" && q.typ == "host" {
			want = "an Ethernet address"
		}
		hint := ""
		if t.kind == tokKeyword && t.text != "and" && t.text != "or" {
			hint = `\` + t.text + " if the name " + t.text + " is meant"
		}
		return nil, p.fail(t, fmt.Sprintf("%s where a value for %q is needed", found(t), q.typ), want,
			hint)
	}
	return &Match{Proto: q.proto, Dir: q.dir, Type: q.typ, ID: id, span: span{t.pos, end}}, nil
}
