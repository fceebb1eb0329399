package sink

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"slices"
	"time"

	"github.com/zbuf-go/zbuf/internal/capture"
	"github.com/zbuf-go/zbuf/internal/human"
	"github.com/zbuf-go/zbuf/internal/pcapio"
)

// Rotation says when a file ends and the next one begins, and which files stay. A rule that is 0
// does not apply.
type Rotation struct {
	Folder *os.Root // has all files; it still opens them when the process may open nothing else
	Shown  string   // the folder's name, for messages
	Name   string   // each file has it, and what Naming says
	Naming Naming

	Size    int64         // a file ends with the packet that makes it so many bytes long on the disk
	Packets uint64        // a file ends with so many packets
	Every   time.Duration // a file ends when the clock shows a multiple of it: see [CheckEvery]

	// ByPackets makes the time stamps of the packets the clock.
	ByPackets bool

	KeepFiles  int   // so many files stay, with the one that is written
	KeepBytes  int64 // so many bytes stay, with Size for the file that is written
	DropOldest bool  // a full disk costs the oldest file, and does not end the capture

	// Statistics returns the counters of each interface since the start of the capture.
	Statistics func() []pcapio.Statistics

	Say      func(line string) // gets a line for each finished file
	Finished func(name string) // gets its name; may be nil
}

// CheckEvery returns an error for a time that the clock does not show again and again.
func CheckEvery(every time.Duration) error {
	const day = 24 * time.Hour
	if every < time.Second || every%time.Second != 0 || day%every != 0 && every%day != 0 {
		return fmt.Errorf("%v: give seconds that divide a day, such as 10s, 15m, 1h or 6h, or whole "+
			"days, such as 24h", every)
	}
	return nil
}

// Rotating is a sink that writes one file after another. Each file is whole, and begins with all
// interfaces. Each packet is in one file.
type Rotating struct {
	rules  Rotation
	spec   Spec
	names  *namer
	folder folder
	ring   ring
	ifaces []pcapio.Interface

	current  *part               // nil after a file that was full, until the next packet
	boundary time.Time           // at which the clock ends the current file
	before   []pcapio.Statistics // when the last file ended
	one      capture.Batch       // a part of a batch

	// Since the oldest file was last removed from a full disk: how often it still is to be tried, and
	// the number of packets that were written then.
	tries   int
	freedAt uint64
	pause   func(time.Duration) // time.Sleep

	files          int    // that are finished
	packets, bytes uint64 // in them
}

// part is one file of a rotation.
type part struct {
	*Sink
	name  string
	began time.Time
	last  time.Time // of its packets, if they are the clock
	left  uint64    // packets until it is full
}

var _ capture.Rotator = (*Rotating)(nil)

// NewRotating returns a sink that writes what spec says. It begins the first file. It overwrites no
// file. If the rules keep some files or bytes, the files of earlier rotations with the same name
// count too.
//
// Errors: those of the files.
func NewRotating(spec Spec, rules Rotation) (*Rotating, error) {
	return newRotating(spec, rules, rootFolder{rules.Folder})
}

func newRotating(spec Spec, rules Rotation, in folder) (*Rotating, error) {
	s := &Rotating{rules: rules, spec: spec, names: newNamer(rules.Name, rules.Naming),
		folder: in, ring: ring{folder: in, shown: rules.Shown}, pause: time.Sleep}
	if err := s.ring.adopt(s.names, rules.KeepFiles > 0 || rules.KeepBytes > 0); err != nil {
		return nil, err
	}
	if rules.ByPackets { // the first packet begins the first file
		return s, nil
	}
	return s, s.begin(time.Now())
}

// begin begins a file, and removes the files before it that do not stay.
func (s *Rotating) begin(now time.Time) error {
	r := &s.rules
	for len(s.ring.files) > 0 && (r.KeepFiles > 0 && len(s.ring.files) >= r.KeepFiles ||
		r.KeepBytes > 0 && s.ring.bytes > r.KeepBytes-r.Size) {
		if err := s.ring.drop(); err != nil {
			return err
		}
	}
	for {
		latest := s.names.latest
		name := s.names.next(now)
		file, err := s.folder.create(name, s.ring.path(name), s.spec)
		switch {
		case errors.Is(err, fs.ErrExist): // somebody else has made it
		case isFull(err) && s.makeRoom(false):
			s.names.latest = latest // the same name again
		case err != nil:
			return fmt.Errorf("can't write: %w", s.ring.errorOf(name, err))
		default:
			p := &part{Sink: file, name: name, began: now}
			if err := s.fill(p); err != nil { // it has no packet, and need not stay
				s.current = nil
				return errors.Join(err, s.abandon(p))
			}
			return nil
		}
	}
}

// fill makes a new file the current one, with all interfaces. They are in the file at once: it can
// be read although there may be no packet for a long time.
func (s *Rotating) fill(p *part) error {
	s.current = p
	p.OnFull(s.makeRoom)
	if s.rules.Every > 0 {
		s.boundary = boundary(p.began, s.rules.Every)
	}
	if p.left = s.rules.Packets; p.left == 0 {
		p.left = math.MaxUint64
	}
	for _, i := range s.ifaces {
		if err := p.AddInterface(i); err != nil {
			return err
		}
	}
	return p.Flush()
}

// abandon removes a file that has no room for what it begins with.
func (s *Rotating) abandon(p *part) error {
	p.Finish(nil) // its error is known
	return s.folder.remove(p.name)
}

// end ends the current file, if there is one. all are the counters since the start of the capture.
func (s *Rotating) end(all []pcapio.Statistics) error {
	p := s.current
	if p == nil {
		return nil
	}
	s.current = nil
	own := s.since(all)
	err := p.Finish(own)
	packets, bytes := p.Written()
	s.files++
	s.packets += packets
	s.bytes += bytes
	size := p.Size()
	s.ring.add(p.name, size)
	dropped := uint64(0)
	for _, i := range own {
		dropped += i.Dropped
	}
	lasted := p.last.Sub(p.began)
	if !s.rules.ByPackets {
		lasted = time.Since(p.began)
	}
	// Whoever reads the line may rely on it.
	if err == nil && s.rules.Finished != nil {
		s.rules.Finished(p.name)
	}
	s.rules.Say(fmt.Sprintf("%s: %s, %s, in %v; %d dropped by the kernel", s.ring.path(p.name),
		counted(packets, "packet"), counted(uint64(size), "byte"),
		human.Elapsed(lasted), dropped))
	return err
}

func counted(n uint64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// since returns the counters since the end of the file before. For the counters, a file has the
// time until it begins too. So those of all files together are those of the capture.
func (s *Rotating) since(all []pcapio.Statistics) []pcapio.Statistics {
	all = all[:min(len(all), len(s.ifaces))]
	own := slices.Clone(all)
	for i, before := range s.before {
		own[i].Start = before.End
		own[i].Received -= before.Received
		own[i].Dropped -= before.Dropped
	}
	s.before = all
	return own
}

// Rotate ends the current file, and begins the next one. Before the first interface has come, the
// current file has just begun and Rotate leaves it.
func (s *Rotating) Rotate(now time.Time) error {
	if len(s.ifaces) == 0 {
		return nil
	}
	if err := s.end(s.rules.Statistics()); err != nil || s.rules.ByPackets {
		return err
	}
	return s.begin(now)
}

// lookAgain is the time after which Due wants to be called again, at the latest. The clock may be
// set meanwhile.
const lookAgain = 10 * time.Second

// Due rotates if the clock says so. It returns the time at which to call it next, or 0 if the clock
// never says so.
func (s *Rotating) Due(now time.Time) (next time.Time, err error) {
	if s.rules.Every == 0 || s.rules.ByPackets {
		return time.Time{}, nil
	}
	if !now.Before(s.boundary) {
		if err := s.Rotate(now); err != nil {
			return time.Time{}, err
		}
	}
	if soon := now.Add(lookAgain); soon.Before(s.boundary) || !now.Before(s.boundary) {
		return soon, nil
	}
	return s.boundary, nil
}

func (s *Rotating) AddInterface(i pcapio.Interface) error {
	s.ifaces = append(s.ifaces, i)
	if s.current == nil {
		return nil
	}
	return s.current.AddInterface(i)
}

func (s *Rotating) Write(b *capture.Batch) error {
	for rest := b.Packets; len(rest) > 0; {
		n := len(rest)
		if s.rules.Size > 0 || s.rules.ByPackets {
			n = 1
		}
		if err := s.ready(rest[0]); err != nil {
			return err
		}
		n = int(min(uint64(n), s.current.left))
		s.one.Packets, rest = rest[:n], rest[n:]
		if err := s.current.Write(&s.one); err != nil {
			return err
		}
		s.current.left -= uint64(n)
		if s.current.left == 0 || s.rules.Size > 0 && s.current.Size() >= s.rules.Size {
			if err := s.end(s.rules.Statistics()); err != nil {
				return err
			}
		}
	}
	return nil
}

// ready makes sure that there is a file for a packet.
func (s *Rotating) ready(p capture.Packet) error {
	if !s.rules.ByPackets {
		if s.current != nil {
			return nil
		}
		return s.begin(time.Now())
	}
	at := time.Unix(p.Sec, p.Nsec)
	if s.current != nil && s.rules.Every > 0 && !at.Before(s.boundary) {
		if err := s.end(s.rules.Statistics()); err != nil {
			return err
		}
	}
	if s.current == nil {
		if err := s.begin(at); err != nil {
			return err
		}
	}
	s.current.last = at
	return nil
}

func (s *Rotating) Flush() error {
	if s.current == nil {
		return nil
	}
	return s.current.Flush()
}

// Finish ends the last file. There is at least one.
func (s *Rotating) Finish(all []pcapio.Statistics) error {
	if s.current == nil && s.files == 0 {
		if err := s.begin(time.Now()); err != nil {
			return err
		}
	}
	return s.end(all)
}

func (s *Rotating) Written() (packets, bytes uint64) {
	if s.current != nil {
		packets, bytes = s.current.Written()
	}
	return s.packets + packets, s.bytes + bytes
}

// Files returns the number of files that are finished.
func (s *Rotating) Files() int { return s.files }

// A file system may take a second until it has the room of a removed file.
const (
	roomTries = 20
	roomPause = time.Second / roomTries
)

// makeRoom removes the oldest file from a disk that is full. It reports whether there may be room
// now. progress says whether there was some since the last call.
func (s *Rotating) makeRoom(progress bool) bool {
	written, _ := s.Written()
	switch {
	case !s.rules.DropOldest:
		return false
	case !progress && s.tries > 0 && written == s.freedAt:
		s.tries--
		s.pause(roomPause)
		return true
	case len(s.ring.files) == 0:
		return false
	}
	oldest := s.ring.path(s.ring.files[0].name)
	if s.ring.drop() != nil {
		return false
	}
	s.tries, s.freedAt = roomTries, written
	s.rules.Say("the disk is full: removed the oldest file, " + oldest)
	return true
}
