//go:build !linux

package folder

import (
	"errors"

	"dunlin/replica"
)

// Paged says that this system has none.
func Paged(string) (replica.Room, error) {
	return nil, errors.New("momentum on disk: only on Linux; leave --momentum-on-disk out")
}
