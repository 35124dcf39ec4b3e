// Package listen is how a server is reached: addresses, TLS, and what one client may take of the server.
//
// # Guarantees
//
//   - The number of connections is bounded, in all and for each origin, and so are the requests of an origin, and the
//     time of a write. A peer that has gone without a word is noticed within 25 seconds.
//   - Files of TLS are read again after they have changed. Files that cannot be used are logged, those before them stay
//     in use, and they are tried again.
//   - Every answer of the [Handler] itself is JSON.
package listen
