package etcdtest

import (
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// RootPassword is the password of etcd's user root after EnableAuth.
const RootPassword = "root-password"

// User is a user that may sign in after EnableAuth.
type User struct {
	Name, Password string
	// Prefix begins the keys that Permission is for; "" means no key.
	Prefix string
	// Permission is one of clientv3.PermRead, PermWrite and PermReadWrite.
	Permission clientv3.PermissionType
}

// EnableAuth makes the server and its whole cluster require a name and password: those of users, or root with
// RootPassword. It closes the clients that Client returned before; ask for another. It can be called once.
func (s *Server) EnableAuth(ctx context.Context, users ...User) error {
	client, err := s.Client()
	if err != nil {
		return err
	}
	if err := enableAuth(ctx, client, users); err != nil {
		return fmt.Errorf("enable auth: %w", err)
	}
	for _, m := range s.members {
		m.signInFromNowOn()
	}
	return nil
}

// signInFromNowOn makes later calls of Client sign in as root.
func (s *Server) signInFromNowOn() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.auth = true
	if s.client != nil {
		_ = s.client.Close() // its error only reports that its context is cancelled
		s.client = nil
	}
}

func enableAuth(ctx context.Context, client *clientv3.Client, users []User) error {
	if _, err := client.RoleAdd(ctx, "root"); err != nil {
		return err
	}
	if _, err := client.UserAdd(ctx, "root", RootPassword); err != nil {
		return err
	}
	if _, err := client.UserGrantRole(ctx, "root", "root"); err != nil {
		return err
	}
	for _, u := range users {
		if _, err := client.UserAdd(ctx, u.Name, u.Password); err != nil {
			return err
		}
		if u.Prefix == "" {
			continue
		}
		if _, err := client.RoleAdd(ctx, u.Name); err != nil {
			return err
		}
		if _, err := client.RoleGrantPermission(ctx, u.Name, u.Prefix, clientv3.GetPrefixRangeEnd(u.Prefix), u.Permission); err != nil {
			return err
		}
		if _, err := client.UserGrantRole(ctx, u.Name, u.Name); err != nil {
			return err
		}
	}
	_, err := client.AuthEnable(ctx)
	return err
}
