package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/zbuf-go/zbuf/internal/capture"
	"github.com/zbuf-go/zbuf/internal/human"
	"github.com/zbuf-go/zbuf/internal/machine"
)

// rates returns the table of --watch.
func (l look) rates(rows []*listenerRow) table.Writer {
	t := l.columns("PID", "PROGRAM", "IFACE", "MODE", "RECEIVED/s", "MATCHED/s", "DROPPED/s", "LOSS",
		"BUFFERS", "DROPS")
	right(t, 1, 5, 6, 7, 8)
	for _, r := range rows {
		row := table.Row{r.PID, orQuestion(r.Program), human.Printable(r.Interface), l.mode(r), "-", "-",
			"-", "-", r.fill(), ""}
		if q := r.Rates; q != nil {
			row[4], row[5] = rate(q.Received), rate(q.Matched)
			row[6] = l.loss(rate(q.Dropped), q.Dropped > 0)
			row[7] = l.loss(human.Percent(uint64(q.DropRate*1e6), 1e6), q.Dropped > 0)
			row[9] = l.paint(l.sparkline(r.drops), text.FgRed)
		}
		t.AppendRow(row)
	}
	return t
}

// rate writes a number of events per second. A number above 0 never looks like 0.
func rate(f float64) string {
	if f > 0 && f < 1 {
		return strconv.FormatFloat(f, 'g', 2, 64)
	}
	return human.Decimal(uint64(f + 0.5))
}

// history is the number of intervals that the sparkline shows.
const history = 20

// follower computes rates from successive looks at the listeners.
type follower struct {
	last []*listenerRow
	at   time.Time
}

// next adds the rates since the last look to the rows. The rows have the kernel's order: of
// listeners that are alike, the latest comes first.
func (f *follower) next(rows []*listenerRow, at time.Time) {
	type likeness struct {
		pid    int
		iface  string
		mode   string
		buffer int
	}
	alike := map[likeness][]*listenerRow{}
	of := func(r *listenerRow) likeness { return likeness{r.PID, r.Interface, r.Mode, r.Buffer} }
	for _, r := range f.last {
		alike[of(r)] = append(alike[of(r)], r)
	}
	seconds := at.Sub(f.at).Seconds()
	for i := len(rows) - 1; i >= 0; i-- {
		r := rows[i]
		was := alike[of(r)]
		if len(was) == 0 || seconds <= 0 {
			continue // new
		}
		old := was[len(was)-1]
		alike[of(r)] = was[:len(was)-1]
		r.drops = old.drops
		if r.Received < old.Received || r.Matched < old.Matched || r.Dropped < old.Dropped ||
			r.ZeroCopyAppends < old.ZeroCopyAppends {
			continue // reset, or another
		}
		per := func(now, before uint64) float64 { return float64(now-before) / seconds }
		r.Rates = &listenerRates{
			Received: per(r.Received, old.Received), Matched: per(r.Matched, old.Matched),
			Dropped:         per(r.Dropped, old.Dropped),
			DropRate:        min(1, share(r.Dropped-old.Dropped, r.Matched-old.Matched)),
			ZeroCopyAppends: per(r.ZeroCopyAppends, old.ZeroCopyAppends),
		}
		r.drops = append(append([]float64(nil), old.drops[max(0, len(old.drops)-history+1):]...),
			r.Rates.Dropped)
	}
	f.last, f.at = rows, at
}

func watchStats(out io.Writer, m *machine.Machine, f *statsFlags) error {
	ctx, stop := capture.UntilSignal(context.Background())
	defer stop(nil)
	l := lookOf(out)
	screen := picture{w: out}
	tick := time.NewTicker(f.watch)
	defer tick.Stop()
	var follow follower
	seen := false
	for n := uint64(0); ; n++ {
		all, err := m.Listeners(f.iface)
		if err != nil && !seen {
			return err
		} else if err != nil {
			return fmt.Errorf("%s after %d intervals", explain(err), n)
		}
		seen = true
		rows := make([]*listenerRow, 0, len(all))
		for _, l := range all {
			rows = append(rows, newListenerRow(l))
		}
		now := time.Now()
		follow.next(rows, now)
		switch {
		case f.json && n > 0:
			err = writeLines(out, now, rows)
		case f.json:
		case l.live:
			err = screen.draw(l.frame(now, f, rows))
		case n > 0:
			err = l.plain(out, now, f, rows)
		}
		if err != nil {
			return err
		}
		if f.count > 0 && n == f.count {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// listenerLine is a line of --watch --json.
type listenerLine struct {
	Time time.Time `json:"time"`
	*listenerRow
}

// writeLines writes each listener as a line of JSON that stands for itself.
func writeLines(out io.Writer, now time.Time, rows []*listenerRow) error {
	var b bytes.Buffer
	for _, r := range rows {
		if err := writeJSONLine(&b, listenerLine{now.UTC(), r}); err != nil {
			return err
		}
	}
	_, err := out.Write(b.Bytes())
	return err
}

// frame returns one picture of --watch, in lines that fit onto the terminal.
func (l look) frame(now time.Time, f *statsFlags, rows []*listenerRow) []string {
	lines := []string{fmt.Sprintf("%s  %s, every %v", now.Format(time.TimeOnly),
		human.Plural(len(rows), "listener"), f.watch)}
	if len(rows) == 0 {
		return append(lines, nobody(f.iface))
	}
	lines = append(lines, strings.Split(l.rates(rows).Render(), "\n")...)
	if room := l.height - 2; room > 2 && len(lines) > room {
		lines = append(lines[:room], fmt.Sprintf("and %d more", len(rows)-room+2))
	}
	return lines
}

// plain writes one interval as lines of words.
func (l look) plain(out io.Writer, now time.Time, f *statsFlags, rows []*listenerRow) error {
	at := now.Format(time.TimeOnly)
	var b strings.Builder
	for _, r := range rows {
		fmt.Fprintf(&b, "%s %d %s %s %s", at, r.PID, orQuestion(r.Program), human.Printable(r.Interface),
			r.Mode)
		if q := r.Rates; q != nil {
			fmt.Fprintf(&b, " received/s=%.1f matched/s=%.1f dropped/s=%.1f loss=%s",
				q.Received, q.Matched, q.Dropped, human.Percent(uint64(q.DropRate*1e6), 1e6))
		} else {
			b.WriteString(" new")
		}
		fmt.Fprintf(&b, " fill=%s\n", human.Percent(uint64(r.Store+r.Hold), uint64(2*r.Buffer)))
	}
	if len(rows) == 0 {
		fmt.Fprintf(&b, "%s %s\n", at, nobody(f.iface))
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// picture is some lines of a terminal that are drawn again and again in the same place.
type picture struct {
	w     io.Writer
	lines int
}

func (p *picture) draw(lines []string) error {
	var b strings.Builder
	if p.lines > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", p.lines)
	}
	for _, line := range lines {
		b.WriteString("\r" + line + "\x1b[K\n")
	}
	b.WriteString("\x1b[J")
	p.lines = len(lines)
	_, err := io.WriteString(p.w, b.String())
	return err
}
