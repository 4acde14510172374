package status

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
	"time"
)

// web is the page: plain files, usable without any build. web/vendor holds
// uPlot, which draws the charts, with its licence.
//
//go:embed web
var web embed.FS

// asset is one file of the page.
type asset struct {
	name, kind, etag string
	content          []byte
}

// assets returns the page's files by their address.
func assets() map[string]http.Handler {
	found := map[string]http.Handler{}
	err := fs.WalkDir(web, "web", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := web.ReadFile(name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(content)
		a := &asset{name: name, kind: contentType(name), etag: `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`, content: content}
		address := strings.TrimPrefix(name, "web")
		if address == "/index.html" {
			address = "/{$}"
		}
		found[address] = a
		return nil
	})
	if err != nil {
		panic("status: the embedded page cannot be read: " + err.Error()) // the compiler put it there
	}
	return found
}

// contentType does not ask the system, whose answers differ.
func contentType(name string) string {
	switch path.Ext(name) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	case ".txt":
		return "text/plain; charset=utf-8"
	}
	return mime.TypeByExtension(path.Ext(name))
}

func (a *asset) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", a.kind)
	w.Header().Set("ETag", a.etag)
	w.Header().Set("Cache-Control", "no-cache") // ask again, a newer program has newer files
	http.ServeContent(w, r, a.name, time.Time{}, bytes.NewReader(a.content))
}
