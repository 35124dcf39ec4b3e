//go:build !race

package processes

// raceDetector tells whether the programs are built with it.
const raceDetector = false
