// The files of a folder by http.ServeContent: server FOLDER PORT
package main

import (
	"log"
	"net/http"
	"os"
	"path/filepath"
)

func main() {
	folder, port := os.Args[1], os.Args[2]
	http.HandleFunc("/", func(answer http.ResponseWriter, request *http.Request) {
		file, err := os.Open(filepath.Join(folder, filepath.Base(request.URL.Path)))
		if err != nil {
			http.NotFound(answer, request)
			return
		}
		defer file.Close()
		info, err := file.Stat()
		if err != nil {
			http.Error(answer, err.Error(), http.StatusInternalServerError)
			return
		}
		http.ServeContent(answer, request, info.Name(), info.ModTime(), file)
	})
	log.Fatal(http.ListenAndServe("127.0.0.1:"+port, nil))
}
