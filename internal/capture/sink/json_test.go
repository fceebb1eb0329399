package sink

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/internal/decode"
)

// fields returns the names of the fields that an object can have. In front of each are the names of
// the objects that it is in.
func fields(t reflect.Type, in string) (names []string) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		typ := f.Type
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
			if typ.Kind() == reflect.Slice && typ.Elem().Kind() == reflect.Struct {
				name += "[]"
			}
			typ = typ.Elem()
		}
		ours := strings.HasSuffix(typ.PkgPath(), "internal/decode")
		switch {
		case !f.IsExported():
		case f.Anonymous:
			names = append(names, fields(typ, in)...)
		case typ.Kind() == reflect.Struct && ours && typ != reflect.TypeFor[decode.Summary]():
			names = append(names, fields(typ, in+name+".")...)
		default:
			names = append(names, in+strings.TrimSuffix(name, "[]"))
		}
	}
	return names
}

// docs/bpfctl.md names each field of an object, and no other.
func TestEveryFieldIsDocumented(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "bpfctl.md"))
	if os.IsNotExist(err) {
		t.Skipf("the documents are where the source is, not here: %v", err)
	}
	require.NoError(t, err)
	_, section, found := strings.Cut(string(text), "\n### Packets as JSON\n")
	require.True(t, found)
	section, _, _ = strings.Cut(section, "\n### ")
	var said []string
	for _, row := range regexp.MustCompile("(?m)^\\| (`.*?) \\|").FindAllStringSubmatch(section, -1) {
		for name := range strings.SplitSeq(row[1], ", ") {
			said = append(said, strings.Trim(name, "`"))
		}
	}
	are := fields(reflect.TypeFor[record](), "")
	slices.Sort(said)
	slices.Sort(are)
	assert.Greater(t, len(are), 80)
	assert.Equal(t, are, said)
}
