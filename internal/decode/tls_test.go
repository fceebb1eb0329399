package decode_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/gopacket/gopacket/layers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/zbuf-go/zbuf/internal/decode"
)

// recorder keeps what is written to a connection.
type recorder struct {
	net.Conn
	mu   sync.Mutex
	sent []byte
}

func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	r.sent = append(r.sent, p...)
	r.mu.Unlock()
	return r.Conn.Write(p)
}

// handshake returns what a client and a server of crypto/tls send each other first.
func handshake(t *testing.T, client *tls.Config) (hello, answer []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	server := &tls.Config{NextProtos: client.NextProtos,
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	c, s := &recorder{Conn: a}, &recorder{Conn: b}
	go tls.Server(s, server).Handshake()
	client.InsecureSkipVerify = true
	require.NoError(t, tls.Client(c, client).Handshake())
	c.mu.Lock()
	s.mu.Lock()
	return c.sent, s.sent
}

func segment(t *testing.T, data []byte) []byte {
	return build(t, ip4(layers.IPProtocolTCP),
		&layers.TCP{SrcPort: 50000, DstPort: 8443, ACK: true, Seq: 1}, raw(data))
}

// The names and versions are those that crypto/tls was told to use, on any port.
func TestTLSOfGo(t *testing.T) {
	for name, c := range map[string]struct {
		config *tls.Config
		client string
		server string
	}{
		"1.3 with a name":    {&tls.Config{ServerName: "www.example.com", NextProtos: []string{"h2", "http/1.1"}}, ": TLS 1.3 ClientHello for www.example.com (h2,http/1.1)", ": TLS 1.3 ServerHello"},
		"1.2 without a name": {&tls.Config{MaxVersion: tls.VersionTLS12}, ": TLS 1.2 ClientHello", ": TLS 1.2 ServerHello"},
	} {
		t.Run(name, func(t *testing.T) {
			hello, answer := handshake(t, c.config)
			client := segment(t, hello)
			got := line(linkRaw, client, len(client), decode.Style{})
			assert.True(t, strings.HasSuffix(got, c.client), got)
			server := segment(t, answer)
			got = line(linkRaw, server, len(server), decode.Style{})
			assert.Contains(t, got, c.server)

			// A part of the name is never taken for the name.
			for n := range client {
				s := decode.Packet(linkRaw, client[:n], len(client))
				if s.TLS != nil && s.TLS.SNI != "" {
					require.Equal(t, c.config.ServerName, s.TLS.SNI)
				}
				check(t, linkRaw, client[:n], len(client))
			}
		})
	}
}
