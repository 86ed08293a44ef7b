"""The configuration of the web servers that serve files: nginx, Apache, lighttpd.

All of them with one worker process, with sendfile, and without an access log,
which ours writes: where set-ups differ, the comparison is the harder one for us.
Limits on connections and on requests per connection are out of the way.
"""

import os
from pathlib import Path

from bench.processes import HOST
from bench.site import Site

_IS_ROOT = os.geteuid() == 0

_NGINX = """
{user}
worker_processes 1;
worker_rlimit_nofile 20000;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 10000; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_timeout 75;
    keepalive_requests 1000000;
    types {{ video/mp4 mp4; application/json json; }}
    client_max_body_size 0;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{upstream}
    server {{
        listen {host}:{port} backlog=4096{listening};
{locations}
    }}
}}
"""

_NGINX_FILES = """
        root {docroot};
        location /put/ {{ root {parent}; dav_methods PUT; }}
        location /refused/ {{ return 401; }}
"""

_NGINX_UPSTREAM = """
    upstream ours {{ server {host}:{port}; keepalive 64; }}
"""

_NGINX_PROXY = """
        location / {{
            proxy_pass http://ours;
            proxy_http_version 1.1;
            proxy_request_buffering off;
            proxy_buffering off;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Host "";
            proxy_set_header X-Forwarded-Prefix "";
        }}
        location /_streamer/ {{
            internal;
            alias {data}/;
            etag off;
            add_header ETag $upstream_http_etag;
            add_header Last-Modified $upstream_http_last_modified;
            add_header Repr-Digest $upstream_http_repr_digest;
            add_header Content-Security-Policy $upstream_http_content_security_policy;
            add_header X-Content-Type-Options $upstream_http_x_content_type_options;
            add_header Referrer-Policy $upstream_http_referrer_policy;
            add_header X-Request-Id $upstream_http_x_request_id;
        }}
"""

_APACHE = """
ServerName bench
ServerRoot {folder}
PidFile {folder}/apache.pid
DefaultRuntimeDir {folder}
Mutex file:{folder}
Listen {host}:{port}
ListenBacklog 4096
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule mime_module {modules}/mod_mime.so
TypesConfig /dev/null
AddType video/mp4 .mp4
AddType application/json .json
{user}
ErrorLog {folder}/error.log
LogLevel error
EnableSendfile On
KeepAlive On
KeepAliveTimeout 75
MaxKeepAliveRequests 0
StartServers 1
ServerLimit 1
ThreadLimit 256
ThreadsPerChild 256
MaxRequestWorkers 256
AsyncRequestWorkerFactor 32
DocumentRoot {docroot}
<Directory {docroot}>
    Require all granted
    AllowOverride None
</Directory>
"""

_LIGHTTPD = """
server.document-root = "{docroot}"
server.bind = "{host}"
server.port = {port}
server.errorlog = "{folder}/error.log"
server.network-backend = "sendfile"
server.max-fds = 16384
server.max-connections = 8192
server.max-keep-alive-requests = 30000
server.max-keep-alive-idle = 75
server.listen-backlog = 4096
mimetype.assign = ( ".mp4" => "video/mp4", ".json" => "application/json" )
"""

APACHE_MODULES = Path("/usr/lib/apache2/modules")


def _put(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def nginx_files(site: Site, folder: Path, port: int, listening: str = "") -> Path:
    """Write a configuration that serves the files of the site; its path.

    ``listening`` are further parameters of the directive ``listen``.
    """
    locations = _NGINX_FILES.format(docroot=site.docroot, parent=site.folder)
    return _nginx(folder, port, "", locations, listening)


def nginx_proxy(site: Site, folder: Path, port: int, ours: int) -> Path:
    """Write a configuration that passes requests on to our server at the port ``ours``; its path."""
    upstream = _NGINX_UPSTREAM.format(host=HOST, port=ours)
    return _nginx(folder, port, upstream, _NGINX_PROXY.format(data=site.data))


def _nginx(folder: Path, port: int, upstream: str, locations: str, listening: str = "") -> Path:
    user = "user root;" if _IS_ROOT else ""  # our data folder is for its owner only
    text = _NGINX.format(
        user=user,
        folder=folder,
        host=HOST,
        port=port,
        listening=listening,
        upstream=upstream,
        locations=locations,
    )
    return _put(folder / "nginx.conf", text)


def apache_files(site: Site, folder: Path, port: int) -> Path:
    """Write a configuration that serves the files of the site; its path."""
    user = "User www-data\nGroup www-data" if _IS_ROOT else ""  # it refuses to work as root
    text = _APACHE.format(
        folder=folder, host=HOST, port=port, modules=APACHE_MODULES, user=user, docroot=site.docroot
    )
    return _put(folder / "apache.conf", text)


def lighttpd_files(site: Site, folder: Path, port: int) -> Path:
    """Write a configuration that serves the files of the site; its path."""
    text = _LIGHTTPD.format(folder=folder, host=HOST, port=port, docroot=site.docroot)
    return _put(folder / "lighttpd.conf", text)
