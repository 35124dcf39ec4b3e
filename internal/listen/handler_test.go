package listen

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"
)

func TestReadyAsksOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, down := 0, true
		h := NewHandler(Handler{Ready: func(ctx context.Context) error {
			asked++
			if down {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}})
		get := func() int {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/-/ready", nil))
			return w.Code
		}
		begin := time.Now()
		codes := make(chan int)
		for range 10 { // at once
			go func() { codes <- get() }()
		}
		for range 10 {
			if code := <-codes; code != 503 {
				t.Errorf("the code is %d", code)
			}
		}
		if took := time.Since(begin); asked != 1 || took != readyTime {
			t.Errorf("it was asked %d times, in %v", asked, took)
		}
		down = false
		if code := get(); code != 503 {
			t.Errorf("the code is %d a moment later", code)
		}
		time.Sleep(readyFor)
		if code := get(); code != 200 || asked != 2 {
			t.Errorf("the code is %d, and it was asked %d times", code, asked)
		}
	})
}

// Every path but those of the probes is passed on as it is.
func TestPathsArePassedOn(t *testing.T) {
	passed := ""
	h := NewHandler(Handler{
		FleetLock: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { passed = r.URL.Path }),
		Ready:     func(context.Context) error { return errors.New("asked") },
	})
	for _, path := range []string{"/", "//v1/pre-reboot", "/v1/../-/ready", "/-"} {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "http://host"+path, nil))
		if passed != path {
			t.Errorf("%s is passed on as %q", path, passed)
		}
	}
	h.ClientCertificates = true
	passed = ""
	w := httptest.NewRecorder()
	if h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/v1/pre-reboot", nil)); passed != "" || w.Code != 403 {
		t.Errorf("without a certificate the code is %d, and %q is passed on", w.Code, passed)
	}
}
