package filter

import (
	"fmt"
	"strconv"
)

// word reads a primitive that begins with the keyword t and is not a Match.
func (p *parser) word(t token) (Node, error) {
	w := &Word{Name: t.text, span: span{t.pos, t.end}}
	switch t.text {
	case "less", "greater", "rnr", "rulenum", "srnr", "subrulenum", "vpi", "vci":
		return w, p.argument(w, t, "a number", tokNumber)
	case "vlan", "mpls", "pppoes", "geneve", "vxlan":
		return w, p.optionalNumber(w)
	case "pppoed", "inbound", "outbound", "lane", "metac", "bcc", "sc", "ilmic", "oam", "oamf4",
		"oamf4ec", "oamf4sc", "oamf4e", "oamf4s", "connectmsg", "metaconnect", "fisu", "lssu", "lsssu",
		"msu",
		"hfisu", "hlssu", "hmsu":
		return w, nil
	case "sio", "opc", "dpc", "sls", "hsio", "hopc", "hdpc", "hsls":
		return w, p.argument(w, t, "a number", tokNumber)
	case "llc":
		if next := p.peek(); next.kind == tokName || next.is("rnr") {
			return w, p.argument(w, t, "", tokName, tokKeyword)
		}
		return w, nil
	case "ifname", "on":
		w.Name = "ifname"
		return w, p.argument(w, t, "the name of an interface", tokName, tokKeyword)
	case "rset", "ruleset":
		w.Name = "rset"
		return w, p.argument(w, t, "the name of a ruleset", tokName, tokKeyword)
	case "reason":
		return w, p.argument(w, t, "a reason such as match, or its number", tokName, tokNumber)
	case "action":
		return w, p.argument(w, t, "an action such as pass or block", tokName)
	case "dir", "direction":
		w.Name = "dir"
		return w, p.argument(w, t, "a direction such as tods, or its number", tokName, tokNumber)
	case "subtype":
		return w, p.argument(w, t, "a subtype such as beacon", tokName)
	case "type":
		if err := p.argument(w, t, "mgt, ctl or data", tokName, tokNumber); err != nil {
			return nil, err
		}
		if s := p.peek(); p.accept("subtype") {
			return w, p.argument(w, s, "a subtype such as beacon", tokName, tokNumber)
		}
		return w, nil
	case "and", "or":
		return nil, p.fail(t, strconv.Quote(t.text)+" has nothing on its left",
			"a condition such as tcp or port 80", "")
	case "mask":
		return nil, p.fail(t, `"mask" belongs behind a net`, "", "net 10.0.0.0 mask 255.0.0.0")
	case "byte":
		return nil, p.fail(t, `"byte" is not in the language's manual`, "", "link[5] = 3 for byte 5 = 3")
	}
	return nil, p.fail(t, strconv.Quote(t.text)+" cannot begin a condition",
		"a condition such as tcp or port 80", "")
}

// argument reads the argument that the keyword t needs.
func (p *parser) argument(w *Word, t token, want string, kinds ...tokenKind) error {
	a := p.take()
	for _, k := range kinds {
		if a.kind != k {
			continue
		}
		if k == tokKeyword {
			a.kind = tokName
		}
		w.Args = append(w.Args, ID{Kind: a.kind, Text: a.text, Number: a.num, Bits: -1})
		w.end = a.end
		switch w.Name {
		case "rulenum":
			w.Name = "rnr"
		case "subrulenum":
			w.Name = "srnr"
		}
		return nil
	}
	hint := ""
	if t.text == "less" || t.text == "greater" {
		hint = t.text + " 100, or len " + map[string]string{"less": "<=",
			"greater": ">="}[t.text] + " … for an arithmetic expression"
	}
	return p.fail(a, fmt.Sprintf("%s where %q needs its argument", found(a), t.text), want, hint)
}

// optionalNumber reads a number, in brackets or not, if there is one.
func (p *parser) optionalNumber(w *Word) error {
	open := 0
	for p.ahead(open).is("(") {
		open++
	}
	n := p.ahead(open)
	if n.kind != tokNumber {
		return nil
	}
	for i := range open {
		if !p.ahead(open + 1 + i).is(")") {
			return nil
		}
	}
	p.at += 2*open + 1
	w.Args = append(w.Args, ID{Kind: tokNumber, Text: n.text, Number: n.num, Bits: -1})
	w.end = p.toks[p.at-1].end
	return nil
}

// compare reads a relation between two numbers.
func (p *parser) compare() (Node, error) {
	x, err := p.arith(0)
	if err != nil {
		return nil, err
	}
	op := p.take()
	if !isRelation(op) {
		if op.is("<") || op.is(">") {
			return nil, p.trailing()
		}
		e := p.fail(op, found(op)+" where a number must be compared", "one of = != < > <= >=", "")
		if load, ok := x.(*Load); ok {
			e.Hint = p.src[load.pos:load.end] + " != 0 for “is not zero”"
		}
		return nil, e
	}
	y, err := p.arith(0)
	if err != nil {
		return nil, err
	}
	name := op.text
	if name == "==" {
		name = "="
	}
	if t := p.peek(); isRelation(t) {
		hint := ""
		if t.pos == op.end {
			hint = "one of = != < > <= >="
		}
		return nil, p.fail(t, "a comparison has two sides, not three", `"and", "or" or the end`, hint)
	}
	return &Compare{Op: name, X: x, Y: y, span: span{x.where().pos, y.where().end}}, nil
}

// levels are the binary operators from the loosest to the tightest.
var levels = [][]string{{"|", "^"}, {"&"}, {"<<", ">>"}, {"+", "-"}, {"*", "/", "%"}}

// arith reads operators of at least the given level. All of them bind from the left.
func (p *parser) arith(level int) (Arith, error) {
	if level == len(levels) {
		return p.factor()
	}
	x, err := p.arith(level + 1)
	for err == nil {
		op := p.peek()
		if !p.accept(levels[level]...) {
			return x, nil
		}
		var y Arith
		if y, err = p.arith(level + 1); err == nil {
			x = &Binary{op.text, x, y}
		}
	}
	return nil, err
}

func (p *parser) factor() (Arith, error) {
	if err := p.down(); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	t := p.take()
	at := span{t.pos, t.end}
	switch {
	case t.kind == tokNumber:
		return &Const{Value: t.num, span: at}, nil
	case t.is("-"):
		x, err := p.factor()
		if err != nil {
			return nil, err
		}
		return &Negative{x, span{t.pos, x.where().end}}, nil
	case t.is("len"), t.is("length"):
		return &Length{at}, nil
	case t.is("("):
		x, err := p.arith(0)
		if err == nil && !p.accept(")") {
			err = p.fail(p.peek(), found(p.peek())+" in a bracket with a number", `")" or an operator`, "")
		}
		return x, err
	case t.kind == tokKeyword:
		if v, ok := namedNumbers[t.text]; ok {
			return &Const{Value: v, Name: t.text, span: at}, nil
		}
		if proto, ok := protocols[t.text]; ok && p.peek().is("[") {
			return p.load(t, proto)
		}
		if p.peek().is("[") {
			return nil, p.fail(t, fmt.Sprintf("%q has no bytes to index", t.text),
				"a protocol such as ip, tcp or ether", "")
		}
	}
	e := p.fail(t, found(t)+" where a number is needed", "a number, len, or a field such as ip[8]", "")
	if _, ok := protocols[t.text]; ok && t.kind == tokKeyword {
		e.Hint = t.text + "[0] for the first byte of its header"
	}
	return nil, e
}

func (p *parser) load(t token, proto string) (Arith, error) {
	p.at++
	idx, err := p.arith(0)
	if err != nil {
		return nil, err
	}
	l := &Load{Proto: proto, Index: idx, Size: 1}
	if p.accept(":") {
		n := p.take()
		if n.kind != tokNumber || n.num != 1 && n.num != 2 && n.num != 4 {
			return nil, p.fail(n, "a field has 1, 2 or 4 bytes", "1, 2 or 4", "")
		}
		l.Size = n.num
	}
	end := p.peek()
	if !p.accept("]") {
		return nil, p.fail(end, found(end)+" in an index",
			`"]", ":" and the number of bytes, or an operator`, "")
	}
	l.span = span{t.pos, end.end}
	return l, nil
}
