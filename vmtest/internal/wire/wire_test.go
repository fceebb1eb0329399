package wire

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// memDisk is a disk that insists on whole sectors, as the guest's does.
type memDisk struct {
	mu sync.Mutex
	b  [BulkSize]byte
}

var errSector = errors.New("not a whole sector")

func (d *memDisk) ReadAt(p []byte, off int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(p)%sector != 0 || off%sector != 0 {
		return 0, errSector
	}
	return copy(p, d.b[off:]), nil
}

func (d *memDisk) WriteAt(p []byte, off int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(p)%sector != 0 || off%sector != 0 || off+int64(len(p)) > BulkSize {
		return 0, errSector
	}
	return copy(d.b[off:], p), nil
}

func pair(t *testing.T, disk Disk) (host, guest *Conn) {
	a, b := net.Pipe()
	t.Cleanup(func() { a.Close(); b.Close() })
	host, guest = NewConn(a, a), NewConn(b, b)
	if disk != nil {
		host.ShareDisk(disk, true)
		guest.ShareDisk(disk, false)
	}
	return host, guest
}

func TestBodiesArriveWholeAndInOrder(t *testing.T) {
	for _, tt := range []struct {
		name string
		disk Disk
	}{{"by the stream", nil}, {"by the shared disk", &memDisk{}}} {
		t.Run(tt.name, func(t *testing.T) {
			host, guest := pair(t, tt.disk)
			const total = 20 << 20 // several times around the slots
			var sent bytes.Buffer
			go func() { // the guest must be read all the time: it gets slots back
				for {
					if _, _, err := guest.Read(); err != nil {
						return
					}
				}
			}()
			errs := make(chan error, 1)
			go func() {
				sizes := []int{1, bulkMin - 1, bulkMin, 70000, slotSize, slotSize + 1, MaxBody, 0, 513}
				for i := 0; sent.Len() < total; i++ {
					body := bytes.Repeat([]byte{byte(i), byte(i >> 8), 7},
						sizes[i%len(sizes)])[:sizes[i%len(sizes)]]
					sent.Write(body)
					if err := guest.Write(Stdout, body); err != nil {
						errs <- err
						return
					}
				}
				errs <- guest.Write(End, nil)
			}()
			var got bytes.Buffer
			for {
				typ, body, err := host.Read()
				require.NoError(t, err)
				if typ == End {
					break
				}
				require.Equal(t, Stdout, typ)
				got.Write(body)
			}
			require.NoError(t, <-errs)
			assert.True(t, bytes.Equal(sent.Bytes(), got.Bytes()))
		})
	}
}

func TestWriterThatWaitsForASlotEndsWithTheConnection(t *testing.T) {
	a, b := net.Pipe()
	guest := NewConn(b, b)
	guest.ShareDisk(&memDisk{}, false)
	go func() { _, _ = io.Copy(io.Discard, a) }() // takes references, gives no slot back
	errs := make(chan error, 1)
	go func() {
		for {
			if err := guest.Write(Stdout, make([]byte, slotSize)); err != nil {
				errs <- err
				return
			}
		}
	}()
	require.Eventually(t, func() bool { return len(guest.bulk.Load().free) == 0 }, 10*time.Second,
		time.Millisecond)
	a.Close()
	_, _, err := guest.Read()
	require.Error(t, err)
	require.Error(t, <-errs)
}

func TestReadRefusesBrokenFrames(t *testing.T) {
	for _, tt := range []struct {
		name  string
		bytes []byte
		want  error
	}{
		{"nothing", nil, io.EOF},
		{"half a header", []byte{'o', 0, 0}, io.ErrUnexpectedEOF},
		{"half a body", []byte{'o', 0, 0, 0, 2, 1}, io.ErrUnexpectedEOF},
		{"no body at all", []byte{'o', 0, 0, 0, 2}, io.ErrUnexpectedEOF},
		{"too long", []byte{'o', 0xff, 0, 0, 0}, ErrFrame},
		{"slot without a disk", []byte{'o' | bulkBit, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1}, ErrFrame},
		{"slot given back without a disk", []byte{byte(slotFree), 0, 0, 0, 0}, ErrFrame},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := NewConn(bytes.NewReader(tt.bytes), io.Discard).Read()
			assert.ErrorIs(t, err, tt.want)
		})
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte{'o', 0, 0, 0, 1, 1, 's', 0, 0, 0, 0})
	f.Add([]byte{'o' | bulkBit, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 1, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		c := NewConn(bytes.NewReader(b), io.Discard)
		c.ShareDisk(&memDisk{}, true)
		for {
			_, body, err := c.Read()
			if err != nil {
				return
			}
			require.LessOrEqual(t, len(body), MaxBody)
		}
	})
}

func TestFile(t *testing.T) {
	var stream bytes.Buffer
	c := NewConn(&stream, &stream)
	text := strings.Repeat("file ", 200000)
	require.NoError(t, c.SendFile(FileHeader{Path: "/f", Size: int64(len(text))},
		strings.NewReader(text)))
	typ, _, err := c.Read()
	require.NoError(t, err)
	require.Equal(t, File, typ)
	var got strings.Builder
	require.NoError(t, ReceiveFile(c, FileHeader{Path: "/f", Size: int64(len(text))}, &got))
	assert.Equal(t, text, got.String())
}

func TestFileThatShrinks(t *testing.T) {
	err := NewConn(nil, io.Discard).SendFile(FileHeader{Path: "/f", Size: 10},
		strings.NewReader("short"))
	assert.ErrorContains(t, err, "/f: it became shorter")
}

type failingWriter struct{}

var errFull = errors.New("full")

func (failingWriter) Write([]byte) (int, error) { return 0, errFull }

func TestFileThatCannotBeWrittenLeavesTheStreamInOrder(t *testing.T) {
	var stream bytes.Buffer
	c := NewConn(&stream, &stream)
	h := FileHeader{Path: "/f", Size: 600000}
	require.NoError(t, c.SendFile(h, bytes.NewReader(make([]byte, h.Size))))
	require.NoError(t, c.Write(Start, nil))
	_, _, err := c.Read()
	require.NoError(t, err)
	err = ReceiveFile(c, h, failingWriter{})
	var werr *WriteError
	require.ErrorAs(t, err, &werr)
	require.ErrorIs(t, err, errFull)
	typ, _, err := c.Read()
	require.NoError(t, err)
	assert.Equal(t, Start, typ)
}
