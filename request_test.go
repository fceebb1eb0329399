package zbuf_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/internal/abi"
)

// methodDocs returns the documentation of the methods of Device.
func methodDocs(t *testing.T) map[string]string {
	docs := map[string]string{}
	entries, err := os.ReadDir(".")
	require.NoError(t, err)
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), e.Name(), nil, parser.ParseComments)
		require.NoError(t, err)
		for _, decl := range f.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || fn.Recv == nil {
				continue
			}
			star, ok := fn.Recv.List[0].Type.(*ast.StarExpr)
			if ok && star.X.(*ast.Ident).Name == "Device" {
				docs[fn.Name.Name] = strings.Join(strings.Fields(fn.Doc.Text()), " ")
			}
		}
	}
	return docs
}

func TestMethodsSayWhatTheTableSays(t *testing.T) {
	if _, err := os.Stat("go.mod"); err != nil {
		t.Skip("not in the source tree: ", err)
	}
	docs := methodDocs(t)
	for _, r := range abi.Requests {
		doc, ok := docs[r.Method]
		if assert.True(t, ok, "%s: Device has no method %s", r.Name, r.Method) {
			assert.Contains(t, doc, r.Name, r.Method)
			assert.Equal(t, r.Locked, strings.Contains(doc, "legal when locked"),
				"%s, %s: legal when locked", r.Method, r.Name)
		}
	}
}

func TestRequestsAreThoseOfTheTable(t *testing.T) {
	all := zbuf.Requests()
	require.Len(t, all, len(abi.Requests))
	for i, r := range abi.Requests {
		req := all[i]
		assert.Equal(t, r.Name, req.String())
		assert.Equal(t, r.Locked, req.LegalWhenLocked(), r.Name)
		arg := req.Argument()
		assert.True(t, req.Takes(arg), r.Name)
		if r.Arg == "" {
			assert.Nil(t, arg, r.Name)
			continue
		}
		typ := reflect.TypeOf(arg)
		assert.Equal(t, r.Arg, typ.Elem().Name(), r.Name)
		size := req >> 16 & 0x1fff
		assert.EqualValues(t, typ.Elem().Size(), size, "%s: the number carries the size", r.Name)
		assert.EqualValues(t, r.Number, req&0xff, r.Name)
		assert.False(t, req.Takes(nil), r.Name)
		assert.False(t, req.Takes(reflect.Zero(typ).Interface()), "%s: nil", r.Name)
		assert.False(t, req.Takes(new(float64)), r.Name)
	}
	const unknown = zbuf.Request(0x20004200 | 200)
	assert.Equal(t, "Request(0x200042c8)", unknown.String())
	assert.Nil(t, unknown.Argument())
	assert.True(t, unknown.Takes(nil))
	assert.False(t, unknown.LegalWhenLocked())
	all[0] = unknown
	assert.NotEqual(t, all[0], zbuf.Requests()[0], "the list is a copy")
}

func TestModelWantsTheArgumentsOfTheTable(t *testing.T) {
	k, _ := newKernel(t)
	for _, req := range zbuf.Requests() {
		b, err := k.Open()
		require.NoError(t, err)
		assert.NotErrorIs(t, b.Ioctl(req, req.Argument()), syscall.EFAULT, "%v", req)
		if req.Argument() != nil {
			assert.ErrorIs(t, b.Ioctl(req, nil), syscall.EFAULT, "%v without an argument", req)
		}
		require.NoError(t, b.Close())
	}
}
