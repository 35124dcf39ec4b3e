// Package page shows the fleet to people in a browser, and to programs as JSON.
//
// The page is HTML that the server has written, which works without JavaScript. A script keeps it up to date where
// there is one: it listens to the events of the API, and takes the sections that have changed from the same page.
// docs/page.md and docs/api.md describe both, and assets/openapi.json is the API for programs.
//
// # Guarantees
//
//   - It only reads. It answers GET and HEAD, and has no cookies.
//   - Whoever asks sees the groups whose slots they may take through the server, and no others.
//   - Whatever hosts and other clients of the store have written is text, whose length is bounded.
//   - A page has 100 hosts at most, whatever the size of the fleet; the number of event streams is bounded, and a stream
//     whose reader is slow, or may not see a group any more, ends.
//   - It costs the store nothing while nobody looks, see [fleet.Cache].
package page
