package listen

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"
)

// One client asks in a loop.
func TestRequestsOfAnOriginAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		passed := 0
		h := NewHandler(Handler{
			FleetLock: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { passed++ }),
			Rate:      600,
		})
		ask := func(address, path string) int {
			w := httptest.NewRecorder()
			r := httptest.NewRequest(http.MethodPost, path, nil)
			r.RemoteAddr = address
			h.ServeHTTP(w, r)
			return w.Code
		}
		for range 1000 {
			ask("[2001:db8::1]:80", "/v1/pre-reboot")
			ask("[2001:db8::2]:80", "/v1/steady-state")
		}
		if passed != 600 {
			t.Errorf("%d of 2000 requests were passed on", passed)
		}
		if code := ask("[2001:db8::3]:80", "/v1/pre-reboot"); code != 429 {
			t.Errorf("the code is %d", code)
		}
		if code := ask("[2001:db8:1::3]:80", "/v1/pre-reboot"); code != 200 {
			t.Errorf("another network gets %d", code)
		}
		passed = 0
		for range 100 {
			time.Sleep(10 * time.Millisecond)
			ask("[2001:db8::1]:80", "/v1/pre-reboot")
		}
		if passed != 10 {
			t.Errorf("%d requests were passed on in a second, want 10", passed)
		}
		for i := range maxOrigins + 1 {
			ask(fmt.Sprintf("10.%d.%d.%d:80", i>>16, i>>8&255, i&255), "/v1/pre-reboot")
		}
		if n := len(h.rate.used); n > maxOrigins {
			t.Errorf("%d origins are remembered", n)
		}
	})
}
