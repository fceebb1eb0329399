package filter

import (
	"strconv"
	"strings"
)

// Expr is a parsed expression. [Parse] makes it. It depends on no link type and on no name lookup.
type Expr struct {
	Root   Node // nil for the empty expression, which every packet matches
	source string
}

// String returns the normal form: every qualifier written out, one spelling for each operator, and
// brackets only where they change the meaning. Parsing the normal form gives the same tree.
func (e *Expr) String() string {
	if e.Root == nil {
		return ""
	}
	var b strings.Builder
	e.Root.write(&b)
	return b.String()
}

// Node is a condition: [*And], [*Or], [*Not], [*Match], [*Word] or [*Compare].
type Node interface {
	write(*strings.Builder)
	where() span
}

// span is the place of a node in the source.
type span struct{ pos, end int }

func (s span) where() span { return s }

// And is true if both are. A program does not evaluate Y if X is false.
type And struct{ X, Y Node }

// Or is true if one of them is. A program does not evaluate Y if X is true.
type Or struct{ X, Y Node }

// Not is true if X is false.
type Not struct {
	X Node
	span
}

// Match compares an address, a port or a protocol number: "tcp dst port 80".
type Match struct {
	Proto string // "ether", "ip", "tcp", …; empty for every protocol that has such a field
	Dir   string // "src", "dst", "src and dst", "ra", "addr1", …; empty for "src or dst"
	Type  string // "host", "net", "port", "portrange", "proto", "protochain" or "gateway"
	ID    ID
	span
}

// ID is a value to compare with.
type ID struct {
	Kind   tokenKind
	Text   string // as written, without the backslash
	Number uint32 // the value, if Kind is a number
	Mask   string // after "mask"
	Bits   int    // after "/"; -1 if there is none
}

// Word is a primitive that is a word of the language, perhaps with an argument: "tcp", "vlan 5",
// "ip broadcast", "type data subtype null".
type Word struct {
	Proto string // qualifier of broadcast and multicast
	Name  string
	Args  []ID
	span
}

// Compare relates two numbers: "ip[0] & 0xf != 5".
type Compare struct {
	Op   string // one of = != > < >= <=
	X, Y Arith
	span
}

// Arith is a number: [*Const], [*Length], [*Load], [*Binary] or [*Negative].
type Arith interface {
	write(*strings.Builder)
	where() span
}

// Const is a number as written, or one with a name such as tcp-syn.
type Const struct {
	Value uint32
	Name  string
	span
}

// Length is the length of the packet on the wire.
type Length struct{ span }

// Load is one, two or four bytes of a header: "tcp[2:2]".
type Load struct {
	Proto string
	Index Arith
	Size  uint32
	span
}

// Binary is an operation on 32-bit numbers that wrap around.
type Binary struct {
	Op   string // one of + - * / % & | ^ << >>
	X, Y Arith
}

// Negative is 0 - X.
type Negative struct {
	X Arith
	span
}

func (n *And) where() span    { return span{n.X.where().pos, n.Y.where().end} }
func (n *Or) where() span     { return span{n.X.where().pos, n.Y.where().end} }
func (a *Binary) where() span { return span{a.X.where().pos, a.Y.where().end} }

func (n *And) write(b *strings.Builder) { writePair(b, n.X, " and ", n.Y) }
func (n *Or) write(b *strings.Builder)  { writePair(b, n.X, " or ", n.Y) }

// writePair relies on "and" and "or" binding equally, from the left.
func writePair(b *strings.Builder, x Node, op string, y Node) {
	x.write(b)
	b.WriteString(op)
	writeOperand(b, y)
}

func writeOperand(b *strings.Builder, n Node) {
	switch n.(type) {
	case *And, *Or:
		b.WriteByte('(')
		n.write(b)
		b.WriteByte(')')
	default:
		n.write(b)
	}
}

func (n *Not) write(b *strings.Builder) {
	b.WriteString("not ")
	writeOperand(b, n.X)
}

func (m *Match) write(b *strings.Builder) {
	for _, q := range []string{m.Proto, m.Dir, m.Type} {
		if q != "" {
			b.WriteString(q)
			b.WriteByte(' ')
		}
	}
	m.ID.write(b)
}

func (i ID) write(b *strings.Builder) {
	if i.Kind == tokNumber {
		b.WriteString(strconv.FormatUint(uint64(i.Number), 10))
		return
	}
	if i.Kind == tokName && !plainName(i.Text) {
		b.WriteByte('\\')
	}
	b.WriteString(i.Text)
	if i.Bits >= 0 {
		b.WriteByte('/')
		b.WriteString(strconv.Itoa(i.Bits))
	} else if i.Mask != "" {
		b.WriteString(" mask ")
		b.WriteString(i.Mask)
	}
}

// plainName reports whether the lexer takes s for a name even without a backslash.
func plainName(s string) bool {
	l := lexer{src: s}
	t, err := l.next()
	return err == nil && t.kind == tokName && t.end == len(s) && s[0] != '\\'
}

func (w *Word) write(b *strings.Builder) {
	if w.Proto != "" {
		b.WriteString(w.Proto)
		b.WriteByte(' ')
	}
	b.WriteString(w.Name)
	for i, a := range w.Args {
		if w.Name == "type" && i == 1 {
			b.WriteString(" subtype")
		}
		b.WriteByte(' ')
		a.write(b)
	}
}

func (c *Compare) write(b *strings.Builder) {
	c.X.write(b)
	b.WriteByte(' ')
	b.WriteString(c.Op)
	b.WriteByte(' ')
	c.Y.write(b)
}

func (a *Const) write(b *strings.Builder) {
	if a.Name != "" {
		b.WriteString(a.Name)
		return
	}
	b.WriteString(strconv.FormatUint(uint64(a.Value), 10))
}

func (*Length) write(b *strings.Builder) { b.WriteString("len") }

func (a *Load) write(b *strings.Builder) {
	b.WriteString(a.Proto)
	b.WriteByte('[')
	a.Index.write(b)
	if a.Size != 1 {
		b.WriteByte(':')
		b.WriteString(strconv.Itoa(int(a.Size)))
	}
	b.WriteByte(']')
}

func (a *Binary) write(b *strings.Builder) {
	writeTerm(b, a.X)
	b.WriteByte(' ')
	b.WriteString(a.Op)
	b.WriteByte(' ')
	writeTerm(b, a.Y)
}

func (a *Negative) write(b *strings.Builder) {
	b.WriteString("- ")
	writeTerm(b, a.X)
}

func writeTerm(b *strings.Builder, a Arith) {
	switch a.(type) {
	case *Binary, *Negative:
		b.WriteByte('(')
		a.write(b)
		b.WriteByte(')')
	default:
		a.write(b)
	}
}
