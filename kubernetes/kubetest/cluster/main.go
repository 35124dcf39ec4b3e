// Command cluster runs the Kubernetes control plane of package kubetest for hosts that are nodes, until it is killed.
//
//	cluster -dir DIR -address HOST:PORT NODE=DISK ...
//
// It writes to the disk of each host, a folder, what its kubelet needs, and prints one line of JSON, an Access, once
// pods can be created. It runs below the folder of the module locksmith, whose bin/ has the programs.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"github.com/locksmithd/locksmith/kubernetes/kubetest"
)

// Access is what an administrator needs to use the API server: its URL, and the paths of PEM files.
type Access struct {
	URL         string `json:"url"`
	CA          string `json:"ca"`
	Certificate string `json:"certificate"`
	Key         string `json:"key"`
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("cluster: ")
	dir := flag.String("dir", "", "an existing folder for data, logs and certificates")
	address := flag.String("address", "", "the host:port of the API server, an IP address of this machine")
	flag.Parse()
	if err := run(*dir, *address, flag.Args()); err != nil {
		log.Fatal(err)
	}
	select {} // the servers end with this process
}

func run(dir, address string, hosts []string) error {
	programs, err := kubetest.FindPrograms()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	c, err := kubetest.Start(ctx, kubetest.Options{Programs: programs, Dir: dir, Address: address, Logf: log.Printf})
	if err != nil {
		return err
	}
	for _, host := range hosts {
		node, disk, ok := strings.Cut(host, "=")
		if !ok {
			return fmt.Errorf("the argument %q is not NODE=DISK", host)
		}
		if err := c.Join(node, disk); err != nil {
			return err
		}
	}
	return json.NewEncoder(os.Stdout).Encode(Access{c.URL, c.CAFile, c.AdminPair.CertFile, c.AdminPair.KeyFile})
}
