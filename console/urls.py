"""All addresses of the console."""

from __future__ import annotations

from django.contrib import admin
from django.urls import path

from console import streams
from console.pages import (
    command_form,
    command_versions,
    commands,
    control,
    invocations,
    scope,
    signing,
    wizard,
)

urlpatterns = [
    path("", scope.home, name="home"),
    path("run/", wizard.run, name="run"),
    path("run/instances/", wizard.instances, name="run-instances"),
    path("run/name/", wizard.name_note, name="name-note"),
    path("tasks/", invocations.tasks, name="tasks"),
    path("tasks/<str:uid>/", invocations.task, name="task"),
    path("tasks/<str:uid>/stop/", control.stop, name="task-stop"),
    path("tasks/<str:uid>/continue/", control.go_on, name="task-continue"),
    path("tasks/<str:uid>/events", streams.events, name="events"),
    path("tasks/<str:uid>/status.json", invocations.status, name="status"),
    path("tasks/<str:uid>/i/<str:instance_uid>/log.txt", invocations.log, name="log"),
    path("commands/", commands.commands, name="commands"),
    path("commands/new/", command_form.new, name="command-new"),
    path("commands/delete/", commands.delete, name="commands-delete"),
    path("commands/<str:uid>/", commands.command, name="command"),
    path("commands/<str:uid>/edit/", command_form.edit, name="command-edit"),
    path("commands/<str:uid>/history/", command_versions.history, name="command-history"),
    path("commands/<str:uid>/restore/", command_versions.restore, name="command-restore"),
    path("commands/<str:uid>/pin/", commands.pin, name="command-pin"),
    path("scope/", scope.choose, name="scope"),
    path("sign-in/", signing.SignIn.as_view(), name="sign-in"),
    path("sign-out/", signing.SignOut.as_view(), name="sign-out"),
    path("healthz", scope.healthz, name="healthz"),
    path("admin/", admin.site.urls),
]
