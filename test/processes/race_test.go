//go:build race

package processes

// raceDetector tells that the programs are built with it as well.
const raceDetector = true
