"""Settings: one file, defaults that run, everything overridable by environment variables.

README.md has the table of variables. Without any, the console is *embedded*: SQLite, keys
and the broker's socket live in the data directory, which ``manage.py up`` fills.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from commands.rules import limits
from console import broker, environment

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = environment.directory("CONSOLE_DATA_DIR", BASE_DIR / "var")

# --- secrets ---------------------------------------------------------------------------

SECRET_KEY = environment.secret_key("SECRET_KEY", DATA_DIR / "keys")
CONSOLE_ENCRYPTION_KEYS = environment.encryption_keys("CONSOLE_ENCRYPTION_KEYS", DATA_DIR / "keys")
CONSOLE_AUDIT_KEY = environment.audit_key("CONSOLE_AUDIT_KEY", DATA_DIR / "keys")

# --- web -------------------------------------------------------------------------------

DEBUG = environment.flag("DEBUG", False)
ALLOWED_HOSTS = environment.hosts("ALLOWED_HOSTS", ["127.0.0.1", "localhost", "[::1]"])
CSRF_TRUSTED_ORIGINS = environment.origins("CSRF_TRUSTED_ORIGINS", [])
FORWARDED_ALLOW_IPS = environment.addresses("FORWARDED_ALLOW_IPS", [])
"""Proxies whose headers are believed."""
SECURE = environment.flag("CONSOLE_SECURE", False)
"""Whether the console is served over HTTPS only (behind a proxy that ends TLS)."""

ROOT_URLCONF = "console.urls"
ASGI_APPLICATION = "console.asgi.application"
INSTALLED_APPS = [
    "console",  # its changepassword comes before Django's
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "axes",
    "csp",
    "django_htmx",
    "commands",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "console.compression.CompressionMiddleware",
    "csp.middleware.CSPMiddleware",
    "console.api.endpoint.ApiMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "console.encoding.ReadableBodyMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "console.sessions.SessionLimitsMiddleware",
    "console.preferences.PreferencesMiddleware",
    "console.second_factor.SecondFactorMiddleware",
    "console.origin.OriginMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "console.errors.DomainErrorMiddleware",
    "axes.middleware.AxesMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "console.pages.frame.frame",
            ]
        },
    }
]
# 10,000 ticked instances and the largest allowed script fit; anything larger is refused.
DATA_UPLOAD_MAX_NUMBER_FIELDS = 11_000
DATA_UPLOAD_MAX_MEMORY_SIZE = 2 * 1024 * 1024

# --- sign-in ---------------------------------------------------------------------------

AUTH_USER_MODEL = "commands.User"
LOGIN_URL = "sign-in"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "sign-in"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
]
# Counted by user name and address together: nobody can lock out somebody who is elsewhere.
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_FAILURE_LIMIT = environment.number("CONSOLE_SIGN_IN_TRIES", 5, least=1)
AXES_COOLOFF_TIME = timedelta(seconds=environment.number("CONSOLE_SIGN_IN_PAUSE", 300, least=10))
AXES_RESET_ON_SUCCESS = True
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_LOCKOUT_CALLABLE = "console.pages.signing.locked_out"
AXES_DISABLE_ACCESS_LOG = True
AXES_ENABLE_ADMIN = False
AXES_VERBOSE = False
AXES_SENSITIVE_PARAMETERS = ["code", "body", "owner", "csrfmiddlewaretoken"]
AXES_SENSITIVE_PARAMETERS += ["old_password", "new_password1", "new_password2"]

CONSOLE_SESSION_IDLE = environment.number("CONSOLE_SESSION_IDLE", 43_200, least=60)
"""Seconds without a request after which a session ends."""
CONSOLE_SESSION_LIFE = environment.number("CONSOLE_SESSION_LIFE", 604_800, least=300)
"""Seconds after which a session ends in any case."""
SESSION_COOKIE_AGE = CONSOLE_SESSION_LIFE

# --- security --------------------------------------------------------------------------

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'"],
        "connect-src": ["'self'"],
        "form-action": ["'self'"],
        "base-uri": ["'none'"],
        "frame-ancestors": ["'none'"],
    },
}
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = SECURE
SECURE_HSTS_SECONDS = 31_536_000 if SECURE else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = SECURE
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if SECURE else None

# --- data ------------------------------------------------------------------------------

DATABASES = {"default": environment.database("DATABASE_URL", DATA_DIR / "db.sqlite3")}
_most_connections = environment.number("CONSOLE_DB_POOL", 3, least=1)
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    _options = {
        # IMMEDIATE takes the write lock at BEGIN: readers that turn into writers never collide.
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }
else:
    # A pool bounds the connections of a process, whatever its number of threads.
    _options = {"pool": {"min_size": 0, "max_size": _most_connections}}
DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
DATABASES["default"]["OPTIONS"] = {**DATABASES["default"].get("OPTIONS", {}), **_options}

STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
STATIC_URL = "static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = environment.text("STATIC_ROOT") or None
WHITENOISE_USE_FINDERS = True

# --- background work -------------------------------------------------------------------

CELERY_BROKER_URL = environment.broker("BROKER_URL", broker.url(DATA_DIR))
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_DEFAULT_QUEUE = "run"
# Starts have a queue of their own, so that a flood of them delays neither a stop nor a check.
CELERY_TASK_ROUTES = {
    f"commands.tasks.{task}": {"queue": "control"}
    for task in (
        "stop_runs",
        "advance",
        "reconcile",
        "check_connections",
        "purge",
        "note_use",
        "examine",
        "read_host_keys",
        "send_notices",
        "look_for_stalls",
    )
}
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# A broker that is away must not hold up a page: the reconciler finds what was not sent.
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0.1,
    "interval_max": 0.1,
    "socket_connect_timeout": 2,
    "socket_timeout": 5,
}
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_BEAT_SCHEDULE = {
    "reconcile": {"task": "commands.tasks.reconcile", "schedule": 5.0, "options": {"expires": 5}},
    "check-connections": {
        "task": "commands.tasks.check_connections",
        "schedule": 5.0,
        "options": {"expires": 5},
    },
    "purge": {"task": "commands.tasks.purge", "schedule": 600.0, "options": {"expires": 600}},
    "note-use": {
        "task": "commands.tasks.note_use",
        "schedule": 900.0,
        "options": {"expires": 900},
    },
    "send-notices": {
        "task": "commands.tasks.send_notices",
        "schedule": 5.0,
        "options": {"expires": 5},
    },
    "look-for-stalls": {
        "task": "commands.tasks.look_for_stalls",
        "schedule": 15.0,
        "options": {"expires": 15},
    },
}
CONSOLE_CHECK_EVERY = environment.number("CONSOLE_CHECK_EVERY", 30, least=5)
"""Seconds after which an instance is checked again: whether it can be reached."""

CONSOLE_ALLOWED_NETWORKS = environment.networks("CONSOLE_ALLOWED_NETWORKS")
"""Networks that instances may be in though ``rules.reachable`` refuses them."""

CONSOLE_OUTPUT_KEPT = environment.number(
    "CONSOLE_OUTPUT_KEPT", limits.OUTPUT_KEPT, least=limits.OUTPUT_KEPT_MIN
)
"""Bytes of a run's output that are kept: the first half and the last half of them."""

# --- e-mail ----------------------------------------------------------------------------

globals().update(environment.mail("EMAIL_URL", DATA_DIR / "mail"))
DEFAULT_FROM_EMAIL = environment.text("EMAIL_FROM", "Command Console <console@localhost>")
EMAIL_TIMEOUT = 10
"""Seconds that a mail server has: a page waits for it."""

# --- notices ---------------------------------------------------------------------------

CONSOLE_URL = environment.own_url("CONSOLE_URL")
"""How people reach the console, without a slash at the end; "" if nobody said so."""
CONSOLE_WEBHOOK_HTTP = environment.flag("CONSOLE_WEBHOOK_HTTP", False)
"""Whether webhooks may be at http:// addresses."""

# --- language and time -----------------------------------------------------------------

LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("zh-hans", "简体中文")]
"""Each by its own name: who looks for it reads that, whatever the page is in."""
LOCALE_PATHS = [BASE_DIR / "console/locale"]
FORMAT_MODULE_PATH = "console.formats"
LANGUAGE_COOKIE_AGE = 31_536_000
LANGUAGE_COOKIE_SECURE = SECURE
USE_I18N = True
USE_TZ = True
USE_THOUSAND_SEPARATOR = True
TIME_ZONE = environment.time_zone("TIME_ZONE", "UTC")

LOG_LEVEL = environment.one_of(
    "LOG_LEVEL", ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"), "WARNING"
)
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
    # paramiko logs each handshake and each refused sign-in; the console says what matters.
    "loggers": {"paramiko": {"level": "CRITICAL"}},
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- experiments -----------------------------------------------------------------------

CONSOLE_WINDOWS = environment.flag("CONSOLE_WINDOWS", False)
"""Whether commands may run on Windows instances: nobody has run any there yet."""
