package zbuf_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/internal/abi"
)

func TestLinkTypesHaveNamesBothWays(t *testing.T) {
	for _, d := range abi.DLTs {
		for _, name := range []string{d.Name, "DLT_" + d.Name, strings.ToLower(d.Name)} {
			dlt, ok := zbuf.DLTByName(name)
			assert.True(t, ok, name)
			assert.EqualValues(t, d.Number, dlt, name)
		}
		dlt, ok := zbuf.DLTByName(zbuf.DLTName(uint32(d.Number)))
		assert.True(t, ok, d.Name)
		assert.EqualValues(t, d.Number, dlt, d.Name)
	}
	for dlt, name := range map[uint32]string{
		zbuf.DLT_EN10MB: "EN10MB", zbuf.DLT_USB: "USB", zbuf.DLT_CHDLC: "C_HDLC",
		122: "IP_OVER_FC", 500: "DLT 500",
	} {
		assert.Equal(t, name, zbuf.DLTName(dlt))
	}
	dlt, ok := zbuf.DLTByName("CHDLC")
	assert.True(t, ok, "a further name")
	assert.EqualValues(t, zbuf.DLT_C_HDLC, dlt)
	for _, name := range []string{"", "DLT_", "DLT 1", "ETHERNET"} {
		_, ok := zbuf.DLTByName(name)
		assert.False(t, ok, name)
	}
}

func TestLinkTypesInFilesAreThoseOfLibpcap(t *testing.T) {
	for dlt, linkType := range map[uint32]uint16{
		zbuf.DLT_NULL: 0, zbuf.DLT_EN10MB: 1, zbuf.DLT_ATM_RFC1483: 100, zbuf.DLT_RAW: 101,
		zbuf.DLT_SLIP_BSDOS: 102, zbuf.DLT_PPP_BSDOS: 103, zbuf.DLT_ATM_CLIP: 106,
		zbuf.DLT_IEEE802_11: 105, zbuf.DLT_LOOP: 108,
		zbuf.DLT_PFSYNC: 246, zbuf.DLT_INFINIBAND: 247,
	} {
		assert.Equal(t, linkType, zbuf.DLTToLinkType(dlt), zbuf.DLTName(dlt))
		assert.Equal(t, dlt, zbuf.LinkTypeToDLT(linkType), zbuf.DLTName(dlt))
	}
}
