package systemd

import (
	"bytes"
	"encoding/binary"
	"net"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/locksmithd/locksmith/test/must"
)

// A caller whose answer is dropped gets an error at once.
func TestAnswerThatCannotBeReadIsAnError(t *testing.T) {
	const call = 42
	encode := func(order binary.ByteOrder, body any) []byte {
		t.Helper()
		m := dbus.Message{
			Type: dbus.TypeMethodReply,
			Headers: map[dbus.HeaderField]dbus.Variant{
				dbus.FieldSender:      dbus.MakeVariant(":1.7"),
				dbus.FieldReplySerial: dbus.MakeVariant(uint32(call)),
				dbus.FieldSignature:   dbus.MakeVariant(dbus.SignatureOf(body)),
			},
			Body: []any{body},
		}
		var frame bytes.Buffer
		must.Do(t, m.EncodeTo(&frame, order))
		return frame.Bytes()
	}
	long := strings.Repeat("x", maxMessage)
	strange := func(order binary.ByteOrder) []byte { // well-formed, but not to godbus
		return bytes.Replace(encode(order, map[string]string{"x": "y"}), []byte("a{ss}"), []byte("a{bs}"), 1)
	}
	for name, frame := range map[string][]byte{
		"too long": encode(binary.LittleEndian, long), "too long, big-endian": encode(binary.BigEndian, long),
		"strange": strange(binary.LittleEndian), "strange, big-endian": strange(binary.BigEndian),
	} {
		t.Run(name, func(t *testing.T) {
			ours, theirs := net.Pipe()
			defer ours.Close()
			go func() {
				_, _ = theirs.Write(frame)
				_, _ = theirs.Write(encode(binary.LittleEndian, "next"))
			}()
			s := &socket{Conn: ours, framed: true}
			m, err := dbus.DecodeMessage(s)
			if err != nil || m.Type != dbus.TypeError || m.Headers[dbus.FieldReplySerial].Value() != uint32(call) ||
				m.Headers[dbus.FieldErrorName].Value() != errUnreadable {
				t.Errorf("got %v, %v", m, err)
			}
			if m, err := dbus.DecodeMessage(s); err != nil || len(m.Body) != 1 || m.Body[0] != "next" {
				t.Errorf("after it: %v, %v", m, err)
			}
		})
	}
}

// No header field that a peer can choose makes its message one of the bus.
func TestMessagesOfTheBusAreRecognized(t *testing.T) {
	const bus = "org.freedesktop.DBus"
	for _, test := range []struct {
		headers map[dbus.HeaderField]dbus.Variant
		want    bool
	}{
		{map[dbus.HeaderField]dbus.Variant{dbus.FieldSender: dbus.MakeVariant(bus), dbus.FieldDestination: dbus.MakeVariant(":1.7")}, true},
		{map[dbus.HeaderField]dbus.Variant{dbus.FieldSender: dbus.MakeVariant(":1.7"), dbus.FieldDestination: dbus.MakeVariant(bus)}, false},
		{map[dbus.HeaderField]dbus.Variant{dbus.FieldSender: dbus.MakeVariant(":1.7"), dbus.FieldInterface: dbus.MakeVariant(bus), dbus.FieldErrorName: dbus.MakeVariant(bus)}, false},
		{map[dbus.HeaderField]dbus.Variant{dbus.FieldSender: dbus.MakeVariant(bus + ".x")}, false},
		{map[dbus.HeaderField]dbus.Variant{dbus.FieldErrorName: dbus.MakeVariant(bus)}, false},
	} {
		test.headers[dbus.FieldReplySerial] = dbus.MakeVariant(uint32(1))
		if _, ok := test.headers[dbus.FieldErrorName]; !ok {
			test.headers[dbus.FieldErrorName] = dbus.MakeVariant("a.b")
		}
		for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
			var frame bytes.Buffer
			must.Do(t, (&dbus.Message{Type: dbus.TypeError, Headers: test.headers}).EncodeTo(&frame, order))
			// The body is empty: all bytes after the fixed header are header fields.
			if got := ofBus(order, frame.Bytes()[fixedHeader:]); got != test.want {
				t.Errorf("%v, %v: %v, want %v", test.headers, order, got, test.want)
			}
		}
	}
}

// headerField returns for any header fields that another program may send.
func FuzzHeaderField(f *testing.F) {
	f.Add([]byte("\x05\x01u\x00\x2a\x00\x00\x00"))
	f.Add([]byte("\x08\x01g\x00\x01s\x00\x00\x05\x01u\x00\x2a\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, fields []byte) {
		for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
			for _, code := range []dbus.HeaderField{dbus.FieldReplySerial, dbus.FieldSender} {
				headerField(order, fields, code)
			}
		}
	})
}
