package ktrace

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func record(typ uint16, thread int64, body ...byte) []byte {
	size := sizeofHeader
	if typ&flagVersioned != 0 {
		size = sizeofHeader1
	}
	b := make([]byte, size, size+len(body))
	binary.NativeEndian.PutUint32(b, uint32(len(body)))
	binary.NativeEndian.PutUint16(b[offType:], typ)
	binary.NativeEndian.PutUint64(b[offThread:], uint64(thread))
	return append(b, body...)
}

func call(thread int64, number uint16, args ...uint64) []byte {
	return typedCall(typeSyscall, thread, number, args...)
}

func typedCall(typ uint16, thread int64, number uint16, args ...uint64) []byte {
	order := binary.NativeEndian
	b := order.AppendUint16(order.AppendUint16(nil, number), uint16(len(args)))
	b = append(b, 0, 0, 0, 0)
	for _, a := range args {
		b = order.AppendUint64(b, a)
	}
	return record(typ, thread, b...)
}

func TestParseCountsByThreadAndNumber(t *testing.T) {
	var b []byte
	for _, r := range [][]byte{call(7, 3), call(7, 3), record(2, 7, 1, 2, 3), call(8, 3),
		call(7, 54, 11, 12), call(7, 54, 13)} {
		b = append(b, r...)
	}
	got, err := parse(b)
	require.NoError(t, err)
	assert.Equal(t, Calls{{7, 3, 0}: 2, {8, 3, 0}: 1, {7, 54, 11}: 1, {7, 54, 13}: 1}, got.Calls)
	assert.Equal(t, uint64(4), got.Calls.Of(7))
	assert.Equal(t, uint64(2), got.Calls.Of(7, 3, 99))
	assert.Equal(t, uint64(5), got.Calls.All())
}

// TestParseVersioned reads what 14 writes: a bit in the type says that a word follows the thread.
func TestParseVersioned(t *testing.T) {
	var b []byte
	for _, r := range [][]byte{
		typedCall(typeSyscall|flagVersioned, 7, 3),
		record(2|flagVersioned, 7, 1, 2, 3),
		typedCall(typeSyscall|flagVersioned, 7, 54, 11),
		call(8, 3), // an older kernel's, which nobody mixes
	} {
		b = append(b, r...)
	}
	got, err := parse(b)
	require.NoError(t, err)
	assert.Equal(t, Calls{{7, 3, 0}: 1, {7, 54, 11}: 1, {8, 3, 0}: 1}, got.Calls)
	_, err = parse(typedCall(typeSyscall|flagVersioned|flagDrop, 7, 3))
	assert.ErrorIs(t, err, errDropped)
	_, err = parse(typedCall(typeSyscall|flagVersioned, 7, 3)[:sizeofHeader])
	assert.Error(t, err, "half a header")
}

func TestParseCountsSleepsByCall(t *testing.T) {
	const out, in = 1, 0
	csw := func(thread int64, direction uint32) []byte {
		return record(typeSwitch, thread, binary.NativeEndian.AppendUint32(nil, direction)...)
	}
	var b []byte
	for _, r := range [][]byte{csw(9, in), call(7, 3, 5), csw(7, out), call(8, 4), csw(7, in),
		csw(8, out), call(7, 3, 6), call(7, 3, 5), csw(7, out), csw(7, in)} {
		b = append(b, r...)
	}
	got, err := parse(b)
	require.NoError(t, err)
	assert.Equal(t, Calls{{7, 3, 5}: 2, {8, 4, 0}: 1}, got.Sleeps)
	_, err = parse(record(typeSwitch, 7, 1))
	assert.Error(t, err, "half a direction")
}

func TestParseWakes(t *testing.T) {
	const out, in = 1, 0
	order := binary.NativeEndian
	csw := func(thread int64, direction uint32) []byte {
		return record(typeSwitch, thread, order.AppendUint32(nil, direction)...)
	}
	ret := func(thread int64, errno uint32, value uint64) []byte {
		b := order.AppendUint32(make([]byte, 4, 16), errno)
		return record(typeReturn, thread, order.AppendUint64(b, value)...)
	}
	var b []byte
	for _, r := range [][]byte{
		csw(9, out), call(7, 3, 5, 6), csw(7, out), call(8, 4), csw(7, in), ret(7, 0, 2),
		call(7, 1, 10, 11, 12), ret(7, 0, 99), call(7, 2), ret(7, 0, 98),
		csw(8, out), csw(8, in), csw(8, out), csw(8, in), ret(8, 60, 1),
		call(7, 3, 5, 6), csw(7, out), csw(7, in), ret(7, 0, 0), csw(6, in), csw(8, out),
	} {
		b = append(b, r...)
	}
	got, err := parseWakes(b)
	require.NoError(t, err)
	assert.Equal(t, []Wake{
		{7, Made{3, [2]uint64{5, 6}}, 2,
			[]Made{{1, [2]uint64{10, 11}}, {2, [2]uint64{}}, {3, [2]uint64{5, 6}}}},
		{8, Made{4, [2]uint64{}}, -1, nil},
		{8, Made{4, [2]uint64{}}, -1, nil},
		{7, Made{3, [2]uint64{5, 6}}, 0, nil},
	}, got)
	_, err = parseWakes(record(typeReturn, 7, 1))
	assert.Error(t, err, "half a return")
	_, err = parseWakes(record(typeSyscall, 7))
	assert.Error(t, err, "a call without its number")
}

// TestNoRecordAtAll shows that a count is not 0 because nothing was understood.
func TestNoRecordAtAll(t *testing.T) {
	const end = 45
	for name, b := range map[string][]byte{
		"nothing":                nil,
		"records of other kinds": record(2, 7, 1, 2, 3),
		"calls, but not the end": call(7, 3),
	} {
		got, err := parse(b)
		require.NoError(t, err)
		_, err = got.Calls.withoutEnd(end)
		assert.ErrorIs(t, err, errNothing, name)
	}
	got, err := parse(append(call(7, 3), call(7, end)...))
	require.NoError(t, err)
	calls, err := got.Calls.withoutEnd(end)
	require.NoError(t, err)
	assert.Equal(t, Calls{{7, 3, 0}: 1}, calls)
}

func TestParseRefuses(t *testing.T) {
	whole := call(7, 3)
	for name, b := range map[string][]byte{
		"half a header":               whole[:20],
		"half a record":               whole[:len(whole)-1],
		"a call without number":       record(typeSyscall, 7),
		"a record after dropped ones": record(typeSyscall|flagDrop, 7, 1, 2),
		"a record of negative length": append(binary.NativeEndian.AppendUint32(nil, 1<<31),
			whole[4:]...),
		"something behind the records": append(call(7, 3), 0),
	} {
		_, err := parse(b)
		assert.Error(t, err, name)
	}
}
