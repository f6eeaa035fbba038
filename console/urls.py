"""All addresses of the console."""

from __future__ import annotations

from django.contrib import admin
from django.urls import path

from console import streams
from console.pages import invocations, scope, signing, wizard

urlpatterns = [
    path("", scope.home, name="home"),
    path("run/", wizard.run, name="run"),
    path("tasks/", invocations.tasks, name="tasks"),
    path("tasks/<str:uid>/", invocations.task, name="task"),
    path("tasks/<str:uid>/events", streams.events, name="events"),
    path("tasks/<str:uid>/status.json", invocations.status, name="status"),
    path("tasks/<str:uid>/i/<str:instance_uid>/log.txt", invocations.log, name="log"),
    path("scope/", scope.choose, name="scope"),
    path("sign-in/", signing.SignIn.as_view(), name="sign-in"),
    path("sign-out/", signing.SignOut.as_view(), name="sign-out"),
    path("healthz", scope.healthz, name="healthz"),
    path("admin/", admin.site.urls),
]
