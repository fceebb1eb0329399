package payload

import (
	"bytes"
	"fmt"

	"github.com/kdomanski/iso9660"
)

// File is one file of the root file system.
type File struct {
	// Path is separated by slashes, without a leading slash. ISO 9660 keeps letters, digits,
	// underscores and one dot of a name, in upper or lower case.
	Path string
	Data []byte
}

// Root builds an ISO 9660 image with the given files. A mount point is a folder with one empty
// file, because the library makes folders only for files.
func Root(files []File, mountPoints []string) (image []byte, err error) {
	w, err := iso9660.NewWriter()
	if err != nil {
		return nil, fmt.Errorf("root file system: %w", err)
	}
	defer func() {
		if cerr := w.Cleanup(); err == nil && cerr != nil {
			err = fmt.Errorf("root file system: %w", cerr)
		}
	}()
	for _, dir := range mountPoints {
		files = append(files, File{Path: dir + "/empty"})
	}
	for _, f := range files {
		if err := w.AddFile(bytes.NewReader(f.Data), f.Path); err != nil {
			return nil, fmt.Errorf("root file system: %s: %w", f.Path, err)
		}
	}
	var buf bytes.Buffer
	if err := w.WriteTo(&buf, "VMTEST"); err != nil {
		return nil, fmt.Errorf("root file system: %w", err)
	}
	return buf.Bytes(), nil
}
