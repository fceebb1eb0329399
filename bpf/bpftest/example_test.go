package bpftest_test

import (
	"fmt"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
)

// A zero-copy session, one request at a time.
func Example() {
	k := bpftest.New(bpftest.WithSysctl("net.bpf.zerocopy_enable", 1))
	em0 := k.AddInterface("em0", zbuf.DLT_EN10MB)

	d, err := k.Open()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer d.Close()
	a, _ := d.Map(8 * d.PageSize())
	b, _ := d.Map(8 * d.PageSize())
	mode := uint32(zbuf.BPF_BUFMODE_ZBUF)
	fmt.Println("mode:", d.Ioctl(zbuf.BIOCSETBUFMODE, &mode))
	fmt.Println("buffers:", d.Ioctl(zbuf.BIOCSETZBUF, &zbuf.Zbuf{Bufa: &a[0], Bufb: &b[0],
		Buflen: uintptr(len(a))}))
	ifr := zbuf.Ifreq{}
	copy(ifr.Name[:], "em0")
	fmt.Println("interface:", d.Ioctl(zbuf.BIOCSETIF, &ifr))

	em0.Receive(make([]byte, 60))

	var rotated zbuf.Zbuf
	fmt.Println("rotate:", d.Ioctl(zbuf.BIOCROTZBUF, &rotated))
	fmt.Println("first buffer:", rotated.Bufa == &a[0], "has data:", rotated.Buflen > 60)
	// Output:
	// mode: <nil>
	// buffers: <nil>
	// interface: <nil>
	// rotate: <nil>
	// first buffer: true has data: true
}
