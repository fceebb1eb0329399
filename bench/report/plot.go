package main

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

func init() { plot.DefaultFont = font.Font{Typeface: "Liberation", Variant: "Sans"} }

// series is one line, or one colour of bars.
type series struct {
	name string
	y    map[string]float64 // by the value of the x key
}

// collect returns the series, and the values of the x key in the order of appearance.
func (p *plotSpec) collect(d *data, s *section) (lines []series, xs []string) {
	for _, r := range d.of(s.bench) {
		shown := d.newest(r)
		for k, v := range p.only {
			shown = shown && r.at[k] == v
		}
		for k, v := range p.not {
			shown = shown && r.at[k] != v
		}
		y, ok := r.values[p.unit]
		if p.ratio {
			y, ok = d.ratio(r, s.against, p.unit)
		}
		if !shown || !ok {
			continue
		}
		var parts []string
		for _, k := range p.lines {
			parts = append(parts, value(k, r.at[k]))
		}
		name := strings.Join(parts, ", ")
		i := slices.IndexFunc(lines, func(l series) bool { return l.name == name })
		if i < 0 {
			i = len(lines)
			lines = append(lines, series{name, map[string]float64{}})
		}
		x := r.at[p.x]
		lines[i].y[x] = y
		if !slices.Contains(xs, x) {
			xs = append(xs, x)
		}
	}
	return lines, xs
}

// draw returns the plot as SVG, or nil if there is nothing to show.
func (p *plotSpec) draw(d *data, s *section) ([]byte, error) {
	lines, xs := p.collect(d, s)
	if len(lines) == 0 {
		return nil, nil
	}
	plt := plot.New()
	plt.Title.Text, plt.X.Label.Text, plt.Y.Label.Text = p.title, p.xlabel, p.ylabel
	plt.Y.Min = 0
	plt.Add(plotter.NewGrid())
	plt.Legend.Top = true
	plt.Legend.ThumbnailWidth = vg.Points(12)
	fill := p.bars
	if p.log {
		fill = p.curves
	}
	if err := fill(plt, lines, xs); err != nil {
		return nil, err
	}
	plt.Y.Min, plt.Y.Max = 0, max(plt.Y.Max*1.05, 1)
	const width, height = 7 * vg.Inch, 3.6 * vg.Inch
	c := vgsvg.New(width, height)
	legend := legendWidth(lines)
	plt.Legend.XOffs = legend - vg.Points(6) // beside the data, not over it
	plt.Draw(draw.Crop(draw.New(c), 0, -legend, 0, 0))
	var b bytes.Buffer
	if _, err := c.WriteTo(&b); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func legendWidth(lines []series) vg.Length {
	most := 0
	for _, l := range lines {
		most = max(most, len(l.name))
	}
	return vg.Points(float64(20 + 7*most))
}

// curves draws lines over the logarithm of x.
func (p *plotSpec) curves(plt *plot.Plot, lines []series, xs []string) error {
	var ticks []plot.Tick
	at := map[string]float64{}
	for _, x := range xs {
		n, err := strconv.ParseFloat(strings.TrimRight(x, "ns"), 64)
		if err != nil || n <= 0 {
			return fmt.Errorf("%s=%s is no number to draw a line over", p.x, x)
		}
		at[x] = math.Log2(n)
		ticks = append(ticks, plot.Tick{Value: at[x], Label: strings.TrimSuffix(value(p.x, x), " KiB")})
	}
	plt.X.Tick.Marker = plot.ConstantTicks(ticks)
	for i, l := range lines {
		var xy plotter.XYs
		for x, y := range l.y {
			xy = append(xy, plotter.XY{X: at[x], Y: y})
		}
		slices.SortFunc(xy, func(a, b plotter.XY) int { return int(math.Copysign(1, a.X-b.X)) })
		line, points, err := plotter.NewLinePoints(xy)
		if err != nil {
			return err
		}
		line.Color, line.Width = plotutil.Color(i), vg.Points(1.5)
		points.Color, points.Shape = line.Color, plotutil.Shape(i)
		plt.Add(line, points)
		plt.Legend.Add(l.name, line, points)
	}
	return nil
}

// bars draws a group of bars for each x.
func (p *plotSpec) bars(plt *plot.Plot, lines []series, xs []string) error {
	width := vg.Points(300 / float64(len(xs)) / float64(len(lines)+1))
	for i, l := range lines {
		var values plotter.Values
		for _, x := range xs {
			values = append(values, l.y[x])
		}
		bars, err := plotter.NewBarChart(values, width)
		if err != nil {
			return err
		}
		bars.LineStyle.Width = 0
		bars.Color = plotutil.Color(i)
		bars.Offset = width * vg.Length(float64(i)-float64(len(lines)-1)/2)
		plt.Add(bars)
		plt.Legend.Add(l.name, bars)
	}
	plt.NominalX(xs...)
	return nil
}
