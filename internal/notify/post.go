package notify

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/locksmithd/locksmith/internal/safetext"
)

const (
	// contentType is what chats want. With it the attributes of the CloudEvent are headers: binary mode.
	contentType = "application/json"

	postTimeout = 10 * time.Second // of one attempt
	maxHeader   = 64 << 10         // of an answer, in bytes
	maxAnswer   = 4 << 10          // of an answer, in bytes
	maxSaid     = 120              // of an answer that is shown, in bytes
	maxAfter    = time.Hour        // that a server can ask to wait for
)

// A DeliveryError is why an event was not delivered. It does not show the URL.
type DeliveryError struct {
	Err   error
	Final bool          // another attempt would fail in the same way
	After time.Duration // how long the server wants to be left alone, 0 if it does not say
}

func (e *DeliveryError) Error() string { return e.Err.Error() }
func (e *DeliveryError) Unwrap() error { return e.Err }

// Post sends an event by HTTP, once, and returns what the server answers. The error is a *DeliveryError. Neither shows a
// secret of the URL.
func (u URL) Post(ctx context.Context, e Event) (answer string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, postTimeout, fmt.Errorf("no answer within %v", postTimeout))
	defer cancel()
	answer, err = u.post(ctx, e)
	if err == nil {
		return answer, nil
	}
	failure, ok := errors.AsType[*DeliveryError](err)
	if !ok {
		failure = &DeliveryError{Err: err}
	}
	if cause := context.Cause(ctx); cause != nil {
		failure = &DeliveryError{Err: cause}
	}
	failure.Err = errors.New(safetext.Cut(u.conceal(failure.Err.Error()), maxReason))
	return "", failure
}

func (u URL) post(ctx context.Context, e Event) (answer string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, string(u), bytes.NewReader(e.Body()))
	if err != nil {
		return "", &DeliveryError{Err: errors.New("the URL is not valid"), Final: true}
	}
	request.Header.Set("Content-Type", contentType)
	request.Header.Set("User-Agent", "locksmith")
	for _, a := range e.attributes() {
		request.Header.Set("ce-"+a.name, headerValue(a.value))
	}
	client := http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: postTimeout, MaxResponseHeaderBytes: maxHeader, DisableKeepAlives: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Do(request)
	if err != nil {
		return "", explain(err)
	}
	defer response.Body.Close()
	// What is wrong with the rest of an answer does not matter: the status says whether the event was taken.
	said, _ := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	return u.judge(response, said)
}

// headerValue encodes the value of an attribute as the HTTP binding of CloudEvents wants it.
func headerValue(value string) string {
	var b strings.Builder
	for _, c := range []byte(value) {
		if c <= ' ' || c == '"' || c == '%' || c >= 0x7f {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// explain returns an error of net/http without the URL, and with what to do about it.
func explain(err error) error {
	if named, ok := errors.AsType[*url.Error](err); ok {
		err = named.Err
	}
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &unknown):
		return fmt.Errorf("%w: the system of this host has to trust the authority", err)
	case errors.Is(err, http.ErrSchemeMismatch):
		return fmt.Errorf("%w: write http:// in LOCKSMITHD_NOTIFY_URL", err)
	case errors.Is(err, io.EOF):
		return fmt.Errorf("the server closed the connection without an answer: %w", err)
	}
	return err
}

// judge returns what an answer says. It may repeat what was sent, and so is cut only once it has no secret any more.
func (u URL) judge(response *http.Response, said []byte) (answer string, err error) {
	answer = safetext.Clean(u.conceal(response.Status))
	if line := strings.Join(strings.Fields(string(said)), " "); line != "" {
		answer += " (" + safetext.Cut(u.conceal(line), maxSaid) + ")"
	}
	status := response.StatusCode
	switch {
	case status/100 == 2:
		return answer, nil
	case status/100 == 3:
		where := ""
		if to, err := response.Location(); err == nil {
			where = " to " + (&url.URL{Scheme: to.Scheme, Host: to.Host}).String()
		}
		return "", fmt.Errorf("a redirect%s, which is not followed: write the address that it leads to into LOCKSMITHD_NOTIFY_URL", where)
	}
	retried := status == http.StatusRequestTimeout || status == http.StatusTooEarly || status == http.StatusTooManyRequests
	return "", &DeliveryError{
		Err: errors.New(answer), Final: status/100 == 4 && !retried, After: after(response.Header.Get("Retry-After")),
	}
}

// after returns how long a Retry-After, which is a number of seconds or a date, wants the client to wait.
func after(text string) time.Duration {
	wait := time.Duration(0)
	if seconds, err := strconv.ParseInt(text, 10, 32); err == nil {
		wait = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		wait = time.Until(at)
	}
	return min(max(0, wait), maxAfter)
}
