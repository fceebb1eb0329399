package sysctl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// Tree has all sysctls of one kernel. [Host] returns that of the running kernel, and [New] that of
// another [System]. The package documentation lists the errors of every call.
type Tree struct{ sys System }

// New returns the tree of sys.
func New(sys System) Tree { return Tree{sys} }

// System returns the [System] below the tree. Wrap it to put something between.
func (t Tree) System() System { return t.sys }

// call makes one call and checks that the System keeps its contract.
func (t Tree) call(mib []int32, old, new []byte) (int, error) {
	n, err := t.sys.Sysctl(mib, old, new)
	if err == nil && (n < 0 || old != nil && n > len(old)) {
		return 0, fmt.Errorf("%w: the kernel returned %d bytes into a buffer of %d", ErrType, n,
			len(old))
	}
	return n, err
}

// maxAnswer is the number of bytes that a read allocates at most. The kernel allocates as much
// itself for some sysctls.
const maxAnswer = 64 << 20

// read returns a whole answer, also if the answer grows meanwhile.
func (t Tree) read(mib []int32) ([]byte, error) {
	size, err := t.call(mib, nil, nil)
	if err != nil {
		return nil, err
	}
	for room := min(size, maxAnswer) + size/8 + 256; room <= maxAnswer; {
		buf := make([]byte, room)
		n, err := t.call(mib, buf, nil)
		if err == nil {
			return buf[:n:n], nil
		}
		if !errors.Is(err, syscall.ENOMEM) {
			return nil, err
		}
		if size, err = t.call(mib, nil, nil); err != nil {
			return nil, err
		}
		room = max(2*room, size+size/8)
	}
	return nil, fmt.Errorf("the answer needs more than %d bytes: %w", maxAnswer, syscall.ENOMEM)
}

// mib looks up a name (sysctl.name2oid).
func (t Tree) mib(name string) ([]int32, error) {
	if name == "" || strings.ContainsRune(name, 0) {
		return nil, syscall.ENOENT
	}
	var buf [4 * maxName]byte
	n, err := t.call([]int32{0, metaName2ID}, buf[:], []byte(name))
	if err != nil {
		return nil, err
	}
	return numbers(buf[:n])
}

// numbers reads a name as the kernel returns it.
func numbers(b []byte) ([]int32, error) {
	mib := make([]int32, len(b)/4)
	if len(b)%4 != 0 || len(mib) == 0 {
		return nil, fmt.Errorf("%w: the kernel returned a name of %d bytes, which is not one of "+
			"4-byte numbers", ErrType, len(b))
	}
	_, err := binary.Decode(b, binary.NativeEndian, mib)
	return mib, err
}

// meta reads one entry of the kernel's directory about a name.
func (t Tree) meta(entry int32, mib []int32) ([]byte, error) {
	return t.read(append([]int32{0, entry}, mib...))
}

func (t Tree) format(mib []int32) (Format, error) {
	b, err := t.meta(metaFormat, mib)
	if err != nil {
		return Format{}, err
	}
	return ParseFormat(b)
}

func (t Tree) lookup(name string) (mib []int32, f Format, err error) {
	if mib, err = t.mib(name); err == nil {
		f, err = t.format(mib)
	}
	return mib, f, err
}

// Format returns the type and flags of a sysctl.
func (t Tree) Format(name string) (Format, error) {
	_, f, err := t.lookup(name)
	return f, opError("format", name, err)
}

// Describe returns the kernel's one line about a sysctl (sysctl.oiddescr). It is empty if the
// kernel has none.
func (t Tree) Describe(name string) (string, error) {
	mib, err := t.mib(name)
	if err != nil {
		return "", opError("describe", name, err)
	}
	b, err := t.meta(metaDescr, mib)
	if errors.Is(err, syscall.ENOENT) {
		return "", nil // the name was found just now, so only the text is missing
	}
	text, _, _ := strings.Cut(string(b), "\x00")
	return text, opError("describe", name, err)
}

// Raw returns the bytes of a sysctl's value. args are more numbers behind the name, such as a
// process id behind kern.proc.pid. If the value grows during the read, Raw reads it again.
func (t Tree) Raw(name string, args ...int32) ([]byte, error) {
	mib, err := t.mib(name)
	if err != nil {
		return nil, opError("get", name, err)
	}
	b, err := t.read(append(mib, args...))
	return b, opError("get", name, err)
}

// String returns the value of a string, without the NUL at its end.
//
// Errors:
//   - [ErrType]: the sysctl is not a string.
func (t Tree) String(name string) (string, error) {
	mib, f, err := t.lookup(name)
	if err == nil && f.Type != CTLTYPE_STRING {
		err = fmt.Errorf("%w: the sysctl is %v, not a string", ErrType, f.Type)
	}
	if err != nil {
		return "", opError("get", name, err)
	}
	b, err := t.read(mib)
	return strings.TrimSuffix(string(b), "\x00"), opError("get", name, err)
}

// integer reads one number, as its 64-bit pattern.
func (t Tree) integer(name string) (bits uint64, signed bool, err error) {
	mib, f, err := t.lookup(name)
	if err != nil {
		return 0, false, err
	}
	size, signed := f.Type.Integer()
	if size == 0 {
		return 0, false, fmt.Errorf("%w: the sysctl is %v, not an integer", ErrType, f.Type)
	}
	// Room for two tells an array from a number.
	var buf [16]byte
	n, err := t.call(mib, buf[:], nil)
	switch {
	case errors.Is(err, syscall.ENOMEM):
		return 0, false, fmt.Errorf("%w: the sysctl is an array of %v, not one number (%w)", ErrType,
			f.Type, err)
	case err != nil:
		return 0, false, err
	case n != size:
		return 0, false, fmt.Errorf("%w: the kernel returned %d bytes, and %v has %d", ErrType, n,
			f.Type, size)
	}
	return decodeInteger(buf[:size], signed), signed, nil
}

// decodeInteger extends a number in host order to 64 bits.
func decodeInteger(b []byte, signed bool) uint64 {
	order := binary.NativeEndian
	switch len(b) {
	case 1:
		if signed {
			return uint64(int8(b[0]))
		}
		return uint64(b[0])
	case 2:
		if signed {
			return uint64(int16(order.Uint16(b)))
		}
		return uint64(order.Uint16(b))
	case 4:
		if signed {
			return uint64(int32(order.Uint32(b)))
		}
		return uint64(order.Uint32(b))
	}
	return order.Uint64(b)
}

// signed reads an integer between two bounds.
func (t Tree) signed(name string, lo, hi int64) (int64, error) {
	bits, signed, err := t.integer(name)
	if err == nil && !signed && bits > math.MaxInt64 {
		err = fmt.Errorf("%w: the value %d is more than %d", ErrRange, bits, hi)
	} else if v := int64(bits); err == nil && (v < lo || v > hi) {
		err = fmt.Errorf("%w: the value %d is not within %d to %d", ErrRange, v, lo, hi)
	}
	if err != nil {
		return 0, opError("get", name, err)
	}
	return int64(bits), nil
}

// unsigned reads an integer up to a bound.
func (t Tree) unsigned(name string, hi uint64) (uint64, error) {
	bits, signed, err := t.integer(name)
	if err == nil && signed && int64(bits) < 0 {
		err = fmt.Errorf("%w: the value %d is less than 0", ErrRange, int64(bits))
	} else if err == nil && bits > hi {
		err = fmt.Errorf("%w: the value %d is more than %d", ErrRange, bits, hi)
	}
	if err != nil {
		return 0, opError("get", name, err)
	}
	return bits, nil
}

// Int32 returns the value of an integer of any width.
//
// Errors:
//   - [ErrRange]: the value does not fit into the result.
//   - [ErrType]: the sysctl is not an integer, or it is an array (see [Slice]).
func (t Tree) Int32(name string) (int32, error) {
	v, err := t.signed(name, math.MinInt32, math.MaxInt32)
	return int32(v), err
}

// Uint32 returns the value of an integer of any width. Its errors are those of [Tree.Int32].
func (t Tree) Uint32(name string) (uint32, error) {
	v, err := t.unsigned(name, math.MaxUint32)
	return uint32(v), err
}

// Int64 returns the value of an integer of any width. Its errors are those of [Tree.Int32].
func (t Tree) Int64(name string) (int64, error) {
	return t.signed(name, math.MinInt64, math.MaxInt64)
}

// Uint64 returns the value of an integer of any width. Its errors are those of [Tree.Int32].
func (t Tree) Uint64(name string) (uint64, error) { return t.unsigned(name, math.MaxUint64) }

// Slice returns the value of an array. T is an integer of a fixed width, or a struct or array of
// such integers. A struct must have the padding of the kernel's struct as fields.
//
// Errors:
//   - [ErrType]: T is an integer, and the kernel's type has another width.
//   - [ErrType]: T is a struct, and the kernel's type is neither opaque nor a node.
//   - [ErrType]: the value is no whole number of T.
func Slice[T any](t Tree, name string, args ...int32) ([]T, error) {
	out, err := slice[T](t, name, args)
	return out, opError("get", name, err)
}

func slice[T any](t Tree, name string, args []int32) ([]T, error) {
	var zero T
	size := binary.Size(zero)
	if size <= 0 {
		return nil, fmt.Errorf("%w: the Go type %T has no fixed size", ErrType, zero)
	}
	mib, f, err := t.lookup(name)
	if err != nil {
		return nil, err
	}
	integer := reflect.ValueOf(zero).CanInt() || reflect.ValueOf(zero).CanUint()
	width, _ := f.Type.Integer()
	switch {
	case f.Type == CTLTYPE_STRING, width != 0 && !integer, width != 0 && width != size:
		return nil, fmt.Errorf("%w: the sysctl is %v, not %T", ErrType, f.Type, zero)
	}
	b, err := t.read(append(mib, args...))
	if err != nil {
		return nil, err
	}
	if len(b)%size != 0 {
		return nil, fmt.Errorf("%w: the sysctl has %d bytes, which are no array of %T with %d bytes each",
			ErrType, len(b), zero, size)
	}
	out := make([]T, len(b)/size)
	if _, err := binary.Decode(b, binary.NativeEndian, out); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrType, err)
	}
	return out, nil
}

// Set sets a sysctl. For an integer, value is a Go integer of any type, or a bool for 0 and 1. For
// a string it is a string. For every type it may be the bytes that the kernel expects.
//
// Errors:
//   - [ErrType]: value is something else.
//   - [ErrRange]: the integer does not fit, or the kernel refuses the value.
//   - [ErrReadOnly]: nobody may set the sysctl.
//   - fs.ErrPermission: this process may not set it.
func (t Tree) Set(name string, value any) error {
	return opError("set", name, t.set(name, value))
}

func (t Tree) set(name string, value any) error {
	mib, f, err := t.lookup(name)
	if err != nil {
		return err
	}
	b, err := encode(f.Type, value)
	if err != nil {
		return err
	}
	if _, err := t.call(mib, nil, b); err != nil {
		return setError(f, err)
	}
	return nil
}

// encode returns the bytes that the kernel wants for a value of a type. They are never nil.
func encode(typ Type, value any) ([]byte, error) {
	size, signed := typ.Integer()
	switch v := value.(type) {
	case []byte:
		if size != 0 && len(v) != size {
			return nil, fmt.Errorf("%w: the new value has %d bytes, and %v has %d", ErrType, len(v), typ,
				size)
		}
		return append([]byte{}, v...), nil
	case string:
		// The kernel ends the string itself, and counts a NUL that was written against its room.
		if typ != CTLTYPE_STRING {
			return nil, fmt.Errorf("%w: the new value is a string, and the sysctl is %v", ErrType, typ)
		}
		if strings.ContainsRune(v, 0) {
			return nil, fmt.Errorf("%w: the new value has a NUL in it", ErrRange)
		}
		return append([]byte{}, v...), nil
	case bool:
		n := 0
		if v {
			n = 1
		}
		return encode(typ, n)
	}
	v := reflect.ValueOf(value)
	if size == 0 || !v.IsValid() || !v.CanInt() && !v.CanUint() {
		return nil, fmt.Errorf("%w: the new value is %T, and the sysctl is %v", ErrType, value, typ)
	}
	var bits uint64
	var fits bool
	width := uint(8 * size)
	if v.CanInt() {
		bits = uint64(v.Int())
		fits = v.Int() >= 0 || signed
	} else {
		bits = v.Uint()
		fits = !signed || bits <= math.MaxInt64
	}
	b := binary.NativeEndian.AppendUint64(nil, bits)
	if binary.NativeEndian.Uint16([]byte{1, 0}) == 1 {
		b = b[:size]
	} else {
		b = b[8-size:]
	}
	if !fits || decodeInteger(b, signed) != bits {
		return nil, fmt.Errorf("%w: %v does not fit into %v (%d bits)", ErrRange, value, typ,
			width)
	}
	return b, nil
}

// Override sets a sysctl and returns a function that restores its old value. It is for tests:
//
//	restore, err := t.Override("net.bpf.zerocopy_enable", 1)
//	require.NoError(t, err)
//	t.Cleanup(func() { require.NoError(t, restore()) })
//
// Only the first call of restore does something. Every call returns its error. A process that is
// killed restores nothing.
func (t Tree) Override(name string, value any) (restore func() error, err error) {
	mib, f, err := t.lookup(name)
	if err == nil && f.Type == CTLTYPE_NODE {
		err = fmt.Errorf("%w: Override cannot restore a node", ErrType)
	}
	var old []byte
	if err == nil {
		old, err = t.read(mib)
	}
	if err == nil && f.Type == CTLTYPE_STRING {
		old = slices.DeleteFunc(old, func(c byte) bool { return c == 0 })
	}
	if err == nil {
		err = t.set(name, value)
	}
	if err != nil {
		return nil, opError("set", name, err)
	}
	return sync.OnceValue(func() error { return t.Set(name, old) }), nil
}
